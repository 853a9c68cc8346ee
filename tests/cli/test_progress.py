"""Progress: lines that do not flood, a live display that survives everything it is told."""

from __future__ import annotations

import io

from gen_cli import progress as module
from gen_cli.progress import LiveProgress, PlainProgress, chosen, progress_on
from gen_cli.show import duration


def test_plain_lines_come_at_most_every_few_seconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    plain = PlainProgress(out, every=5)
    plain.step_started("fit.codec", "")
    for step in range(1, 101):
        now[0] += 0.25
        plain.update("fit.codec", step, 200, {"loss": 0.5, "lr": 1e-3}, 4.0)
    plain.step_finished("fit.codec", 25.0, "")
    lines = out.getvalue().splitlines()
    assert lines[0] == "fit.codec: starts" and lines[-1] == "fit.codec: done in 25 s"
    assert lines[1:-1] == [
        f"fit.codec {k}/200  loss 0.5  4 steps/s  {duration((200 - k) / 4)} left" for k in (20, 40, 60, 80, 100)
    ]


def test_the_time_left_is_known_without_a_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    clock = module._Clock()
    assert clock.left("sample", 1, 5, None) is None
    now[0] = 10.0
    assert clock.left("sample", 2, 5, None) == 30.0
    assert clock.left("evaluate", 1, 9, None) is None


def test_the_loss_comes_first_and_the_rest_fits():
    values = {"l1": 0.25, "lr": 1e-3, "loss": 1.5, "grad_norm": 3.0, "a": 1.0, "b": 12.0, "c": 3.0}
    assert chosen(values) == "loss 1.5, l1 0.25, a 1, b 12"
    assert chosen({"disc/lr": 1.0, "odd": float("nan"), "far": float("inf")}) == "odd nan, far inf"


def test_a_pipe_gets_plain_lines_and_a_terminal_a_live_display():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with progress_on(io.StringIO()) as plain:
        assert isinstance(plain, PlainProgress)
    out = Terminal()
    with progress_on(out) as live:
        assert isinstance(live, LiveProgress)
        live.step_started("prepare", "done before")
        live.update("fit.codec", 3, 10, {"loss": 0.5}, 2.0)  # a stage nobody announced
        live.step_started("fit.codec", "goes on")
        live.update("fit.codec", 4, 10, {"[loss]": 0.25}, None)
        live.say("a [bold] note")
        live.step_finished("fit.codec", 62.0, "")
        live.step_finished("fit.codec", 1.0, "twice")
    said = out.getvalue()
    assert "prepare: done before" in said and "a [bold] note" in said and "1 min 02 s" in said


def test_lines_come_out_as_they_are_said():
    out = io.StringIO()
    plain = PlainProgress(out)
    plain.step_started("encode", "taken from runs/a")
    plain.say("one subject")
    plain.step_finished("encode", 0.84, "12 volumes")
    assert out.getvalue() == "encode: taken from runs/a\none subject\nencode: done in 0.8 s, 12 volumes\n"
