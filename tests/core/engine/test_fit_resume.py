"""Killed anywhere, a fit goes on to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gen_core.engine import checkpoint as ckpt
from gen_core.engine.events import read_events
from gen_core.engine.stop import StopFlag
from gen_core.errors import RunError, Stopped

SCRIPT = Path(__file__).with_name("tiny.py")
LAST = "step-00000023"


class StopAt(StopFlag):
    """Asks for a stop at the n-th look."""

    def __init__(self, n):
        self.looks, self.n = 0, n
        super().__init__()

    @property
    def requested(self):
        self.looks += 1
        return "SIGTERM" if self.looks > self.n else ""

    @requested.setter
    def requested(self, value):
        pass


def _equal(a, b):
    """The final checkpoints (weights, averages, optimizers, extra state) and products are bit-equal."""
    one, two = (ckpt.open_checkpoint(f / "steps" / "checkpoints" / LAST) for f in (a, b))
    assert one.state["files"] == two.state["files"]
    for key in ("step", "epoch", "extra_state", "micro_batches"):
        assert one.state[key] == two.state[key], key
    for name in ("weights.safetensors", "weights.json"):
        assert (a / "steps" / name).read_bytes() == (b / "steps" / name).read_bytes()
    curves = [
        [(e["kind"], e["step"], e["values"]) for e in read_events(f / "events.jsonl") if e["kind"] in CURVES]
        for f in (a, b)
    ]
    assert curves[0] == curves[1]  # no doubles, no holes, and the same averages


CURVES = ("train", "validation", "epoch")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The uninterrupted fit."""
    folder = tmp_path_factory.mktemp("whole")
    tiny.run(folder, select="l2")
    return folder


def test_the_same_fit_twice_gives_the_same_bits(tiny, whole, tmp_path):
    tiny.run(tmp_path, select="l2")
    _equal(whole, tmp_path)


def test_a_finished_fit_is_not_done_again(tiny, whole, tmp_path):
    tiny.run(tmp_path, select="l2")
    module = tiny.Tiny()
    _, summary = tiny.run(tmp_path, module, select="l2")
    assert summary.resumed_from == 23 and module.sizes == []
    _equal(whole, tmp_path)


@pytest.mark.parametrize("looks", [0, 1, 2, 3, 4, 5, 17, 30, 31, 32, 33, 50, 77, 90, 91, 92, 93, 94])
def test_a_stop_at_any_look_saves_and_goes_on_to_the_same_bits(tiny, whole, tmp_path, looks):
    with pytest.raises(Stopped, match="stopped by SIGTERM after step") as caught:
        tiny.run(tmp_path, stop=StopAt(looks), select="l2")
    assert caught.value.exit_code == 75
    found, problems = ckpt.newest_checkpoint(tmp_path / "steps" / "checkpoints")
    assert f"after step {found.state['step']} of 23" in str(caught.value) and not problems
    tiny.run(tmp_path, select="l2")
    _equal(whole, tmp_path)


def test_a_stop_between_two_logged_lines_leaves_the_averages_as_they_were(tiny, tmp_path):
    lines = lambda f: [(e["step"], e["values"]) for e in read_events(f / "events.jsonl") if e["kind"] == "train"]
    tiny.run(tmp_path / "whole", log_every=9)
    for looks in (13, 31, 50):
        with pytest.raises(Stopped):
            tiny.run(tmp_path / "stopped", stop=StopAt(looks), log_every=9)
    tiny.run(tmp_path / "stopped", log_every=9)
    assert [step for step, _ in lines(tmp_path / "whole")] == [9, 18, 23]
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")


def test_many_stops_in_a_row_still_lead_there(tiny, whole, tmp_path):
    for tries in range(30):
        try:
            tiny.run(tmp_path, stop=StopAt(9 + tries % 3), select="l2")
            break
        except Stopped:
            continue
    assert 3 < tries < 29
    _equal(whole, tmp_path)


def _truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [_truncate, _remove])
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(tiny, whole, tmp_path, damage):
    tiny.run(tmp_path, select="l2")
    for name in ("weights.safetensors", "weights.json"):
        (tmp_path / "steps" / name).unlink()
    damage(tmp_path / "steps" / "checkpoints" / LAST / "weights.safetensors")
    _, summary = tiny.run(tmp_path, select="l2")
    assert summary.resumed_from == 20
    assert f"{LAST}/weights.safetensors" in summary.notes[0] and "going on from step 20" in summary.notes[0]
    assert any(e["kind"] == "fallback" for e in read_events(tmp_path / "events.jsonl"))
    _equal(whole, tmp_path)


def test_when_all_are_damaged_it_starts_anew_and_says_so(tiny, whole, tmp_path):
    tiny.run(tmp_path, select="l2")
    for file in (tmp_path / "steps" / "checkpoints").glob("step-*/state.json"):
        _truncate(file)
    _, summary = tiny.run(tmp_path, select="l2")
    assert summary.resumed_from is None and len(summary.notes) == 2
    _equal(whole, tmp_path)


def test_half_written_leftovers_are_swept(tiny, whole, tmp_path):
    left = tmp_path / "steps" / "checkpoints" / ".step-00000005.partial77"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"x")
    (tmp_path / "steps" / ".weights.partial77.safetensors").write_bytes(b"x")
    tiny.run(tmp_path, select="l2")
    assert not [p for p in tmp_path.rglob("*") if "partial" in p.name]


def test_two_checkpoints_and_the_best_stay(tiny, whole):
    names = sorted(p.name for p in (whole / "steps" / "checkpoints").iterdir())
    best = json.loads((whole / "steps" / "checkpoints" / LAST / "state.json").read_text())["best"]["name"]
    assert names[-2:] == ["step-00000020", LAST] and best in names[:-2] and len(names) <= 4


def test_micro_batches_found_by_running_out_of_memory_survive_a_stop(tiny, tmp_path):
    tiny.run(tmp_path / "a", tiny.Tiny(limit=2), select="l2")
    with pytest.raises(Stopped):
        tiny.run(tmp_path / "b", tiny.Tiny(limit=2), stop=StopAt(60), select="l2")
    module = tiny.Tiny(limit=2)
    tiny.run(tmp_path / "b", module, select="l2")
    assert set(module.sizes) == {2}
    _equal(tmp_path / "a", tmp_path / "b")


def test_a_checkpoint_of_another_model_is_refused_by_name(tiny, tmp_path):
    tiny.run(tmp_path, steps=5)
    module = tiny.Tiny()
    module.decoder = torch.nn.Linear(3, 5, bias=False)
    with pytest.raises(RunError, match="unexpected: decoder.bias"):
        tiny.run(tmp_path, module)


def test_a_checkpoint_beyond_the_wanted_steps_is_refused(tiny, tmp_path):
    tiny.run(tmp_path, steps=5)
    with pytest.raises(RunError, match="made after 5 steps, but fit.steps = 3"):
        tiny.run(tmp_path, steps=3)


def _start(*arguments):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


def test_sigkill_at_random_moments_leads_to_the_same_bits(tiny, whole, tmp_path):
    said, _ = _start("torment", tmp_path, 12).communicate()
    assert int(said) >= 6
    tiny.run(tmp_path, select="l2")
    _equal(whole, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if "partial" in p.name]


def test_sigterm_ends_with_75_and_a_checkpoint(tiny, whole, tmp_path):
    child = _start("serve", tmp_path, 0.2)
    assert child.stdout.readline() == "ready\n"
    while not (tmp_path / "events.jsonl").exists():
        time.sleep(0.01)
    child.terminate()
    began = time.monotonic()
    said, _ = child.communicate()
    assert child.returncode == 75 and "stopped by SIGTERM" in said and time.monotonic() - began < 10
    assert ckpt.newest_checkpoint(tmp_path / "steps" / "checkpoints")[0] is not None
    tiny.run(tmp_path, select="l2")
    _equal(whole, tmp_path)
