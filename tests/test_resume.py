"""Kill a run at random moments, by any signal, start the same command again: the end is equal bit for bit."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter

import pytest
from small_run import start, write_recipe

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
STOPPED = 75


def killed_until_done(zygote, folder, moments, kills, longest):
    """Send a run up to `kills` signals, each in a process of its own, then let it end. Returns the exit codes."""
    write_recipe(folder)
    codes = []
    while len(codes) < kills:
        number = moments.choice(SIGNALS)
        ended = start(zygote, folder, after=(moments.uniform(0.05, longest), int(number)))
        if ended.code == 0:
            break
        polite = (STOPPED,) if number != signal.SIGKILL else ()
        assert ended.code in (-number, *polite), ended.text  # before the handlers stand, any signal kills
        codes.append(ended.code)
    ended = start(zygote, folder)
    assert ended.code == 0, ended.text
    return codes


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(zygote, whole, tmp_path):
    codes = killed_until_done(zygote, tmp_path / "work", random.Random(3), 2, 0.4 * whole.seconds)
    assert codes and whole.differences(tmp_path / "work") == []


@pytest.mark.slow
def test_a_hundred_kills_cost_no_bit(zygote, whole, tmp_path):
    """The nightly run: prints how many struck, and what differed."""
    moments, codes, runs, wrong = random.Random(100), Counter(), 0, []
    write_recipe(tmp_path / "timed")
    seconds = 0.4 * start(zygote, tmp_path / "timed").seconds  # now that all is imported
    while codes.total() < 100:
        codes.update(killed_until_done(zygote, tmp_path / "work", moments, min(8, 100 - codes.total()), seconds))
        runs += 1
        wrong += whole.differences(tmp_path / "work")
        shutil.rmtree(tmp_path / "work")
        print(f"{runs} runs, {codes.total()} kills by exit code {dict(codes)}, differing: {wrong}", flush=True)
    assert wrong == []


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGUSR1))]
)
def test_a_polite_signal_leaves_a_checkpoint_and_exit_code_75(zygote, whole, tmp_path, number):
    """The signal comes with the third optimizer step of the codec's fit."""
    write_recipe(tmp_path / "work")
    wait = f"""
import os
from gen_codecs.vq_codec import VqCodec as Codec
true = Codec.training_step
def step(self, batch, step):
    if step.index == 2:
        os.kill(os.getpid(), {int(number)})
    yield from true(self, batch, step)
Codec.training_step = step
"""
    ended = start(zygote, tmp_path / "work", patch=wait)
    assert ended.code == STOPPED, ended.text
    assert f"stopped by {number.name}" in ended.last and "the same command goes on" in ended.last
    assert [p.name for p in (tmp_path / "work/run/steps/fit.codec/checkpoints").glob("step-*")]
    assert start(zygote, tmp_path / "work").code == 0
    assert whole.differences(tmp_path / "work") == []


def test_a_finished_run_is_left_alone(zygote, whole):
    run = whole.folder / "run"
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    ended = start(zygote, whole.folder)
    assert ended.code == 0, ended.text
    assert before and {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before
