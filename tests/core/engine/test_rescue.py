"""A stop is honoured in time even when the loop is held up."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time

import pytest
import torch

from gen_core.engine import checkpoint as ckpt
from gen_core.engine import fit as fit_module
from gen_core.engine.rescue import Rescue
from gen_core.engine.stop import StopFlag
from gen_core.errors import RunError, Stopped


def _wait(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_held_up_loop_is_saved_once_after_the_grace():
    stop, calls = StopFlag(), []
    rescue = Rescue(stop, grace=0.1)
    with rescue.held_up(lambda: calls.append(threading.current_thread())):
        time.sleep(0.4)
        assert not calls  # nobody asked for a stop
        stop.request("SIGTERM")
        assert _wait(lambda: calls)
        time.sleep(0.6)
    rescue.close()
    assert len(calls) == 1 and calls[0] is not threading.current_thread()


def test_outside_nothing_is_saved_and_leaving_waits_for_a_save():
    stop, done = StopFlag(), []
    rescue = Rescue(stop, grace=0.0)
    stop.request("SIGTERM")
    time.sleep(0.6)
    assert not done

    def save():
        done.append("began")
        time.sleep(0.2)
        done.append("ended")

    with rescue.held_up(save):
        assert _wait(lambda: done)
    assert done == ["began", "ended"]
    rescue.close()


def test_trouble_while_saving_is_left_to_the_loop():
    stop = StopFlag()
    rescue, calls = Rescue(stop, grace=0.0), []

    def save():
        calls.append(1)
        raise RunError("disk full")

    stop.request("SIGTERM")
    with rescue.held_up(save):
        assert _wait(lambda: calls)
    rescue.close()


def test_a_signal_raises_the_flag_while_the_main_thread_is_inside_one_operation():
    a = torch.randn(2500, 2500)
    with StopFlag() as stop:
        seen = []
        threading.Thread(target=lambda: stop.raised.wait(20) and seen.append(time.monotonic())).start()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        before = time.monotonic()
        while not seen and time.monotonic() - before < 20:
            a @ a  # far longer than the timer on one thread
            after = time.monotonic()
            if after - before < 0.1:  # a fast machine: make it longer
                a, before = torch.randn(2 * len(a), 2 * len(a)), time.monotonic()
    assert seen and seen[0] < after


@pytest.mark.parametrize("late", [0, 9])
def test_a_step_that_takes_too_long_is_saved_as_it_was_before(tiny, tmp_path, monkeypatch, late):
    """The checkpoint written from the side leads to the same bits, even when the process is then killed."""
    monkeypatch.setattr(fit_module, "Rescue", functools.partial(Rescue, grace=0.1))
    tiny.run(tmp_path / "whole")
    module, stop = tiny.Tiny(), StopFlag()
    original = module.training_step
    folder = tmp_path / "cut" / "steps" / "checkpoints" / ckpt.checkpoint_name(late)

    class Killed(BaseException):
        pass

    def training_step(batch, step):
        parts = original(batch, step)
        yield next(parts)  # buffers have changed by now
        if step.index == late:
            stop.request("SIGTERM")
            assert _wait(folder.exists)
            raise Killed
        yield from parts

    module.training_step = training_step
    with pytest.raises(Killed):
        tiny.run(tmp_path / "cut", module, stop=stop)
    assert ckpt.open_checkpoint(folder).tensors("weights")["counts"].tolist() == [late, late]
    again, summary = tiny.run(tmp_path / "cut")
    assert summary.resumed_from == late
    for name in ("weights.safetensors", "weights.json"):
        whole, cut = (tmp_path / f / "steps" / name for f in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_a_slow_reader_does_not_keep_a_stop_from_being_saved(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "Rescue", functools.partial(Rescue, grace=0.1))
    stop, saved = StopFlag(), []
    folder = tmp_path / "steps" / "checkpoints" / "step-00000003"

    class Slow(tiny.TensorSource):
        def stream(self, plan):
            for i, batch in enumerate(super().stream(plan)):
                if i == 3:
                    stop.request("SIGUSR1")
                    saved.append(_wait(folder.exists))
                yield batch

    with pytest.raises(Stopped, match="SIGUSR1 after step 3"):
        tiny.run(tmp_path, source=Slow(tiny.data()), stop=stop)
    assert saved == [True]
