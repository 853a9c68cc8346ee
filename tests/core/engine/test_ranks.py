"""Several processes fit what one fits, fail together, and go on from each other's checkpoints."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gen_core.engine import checkpoint as ckpt
from gen_core.engine.events import read_events


def _load():
    spec = importlib.util.spec_from_file_location("engine_ranked", Path(__file__).with_name("ranked.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine_ranked"] = module
    spec.loader.exec_module(module)
    return module


ranked = _load()
EQUAL = ("plain", "accumulated", "ddpm3d", "vqgan", "autoencoder-kl", "stylegan2-ada", "dcgan")
UNEVEN = ("accumulated", "vqgan", "autoencoder-kl", "stylegan2-ada", "ddpm3d")
FAILING = ("nan", "drifting", "error")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One process with the whole batch."""
    folder, before = tmp_path_factory.mktemp("one"), torch.optim.AdamW
    torch.optim.AdamW = ranked.descent
    try:
        for case in (*EQUAL, "slow"):
            ranked.run(folder / case, case)
    finally:
        torch.optim.AdamW = before
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes: the folder, and (exit code, output) of each."""
    folder = tmp_path_factory.mktemp("two")
    with ranked.started(folder, 2, *EQUAL, "memory", *FAILING) as processes:
        return folder, processes.finished()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three processes: micro-batches of two samples, so one of them always works on a stand-in."""
    folder = tmp_path_factory.mktemp("three")
    with ranked.started(folder, 3, "slow", *UNEVEN) as processes:
        found = processes.finished()
    assert [code for code, _ in found] == [0, 0, 0], found
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def curve(folder: Path) -> list[dict[str, float]]:
    """What was logged of training, line by line."""
    return [e["values"] for e in read_events(folder / "events.jsonl") if e["kind"] == "train"]


def assert_equal_to(found: Path, expected: Path, codebook: float = 1e-6) -> None:
    """codebook: how far its vectors and sums may be off, beyond a millionth."""
    ours, theirs = weights(found), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # sums of the codebook run over a dozen vectors of a codec whose weights agree to 1e-6 themselves
        most = codebook if name.startswith("codebook.") else 1e-6
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=most, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", EQUAL)
def test_two_processes_with_half_the_batch_equal_one_with_the_whole(one, two, case):
    torch.manual_seed(5)
    start = ranked.BUILD[case]()[0].state_dict()
    moved = max(float((weights(one / case)[k] - v).abs().max()) for k, v in start.items() if v.is_floating_point())
    assert moved > 1e-3, "nothing was learned"
    assert_equal_to(two[0] / case, one / case)


@pytest.mark.parametrize("case", UNEVEN)
def test_three_processes_with_uneven_parts_and_stand_ins_equal_one(one, three, case):
    assert_equal_to(three / case, one / case, codebook=4e-6)


def test_logged_values_are_those_of_the_whole_batch(one, two):
    ours, theirs = curve(two[0] / "ddpm3d"), curve(one / "ddpm3d")
    assert len(ours) == len(theirs) == 3
    for a, b in zip(ours, theirs):
        assert a == pytest.approx(b, rel=1e-4)


def test_a_lack_of_memory_in_one_process_makes_all_go_on_in_smaller_pieces(one, two):
    state = json.loads((two[0] / "memory" / "checkpoints" / "step-00000005" / "state.json").read_text())
    assert state["micro_batches"] == 2
    assert_equal_to(two[0] / "memory", one / "accumulated")


def test_not_a_number_stops_all_before_the_update_and_names_the_process_and_its_samples(two):
    folder, ((_, lead), (_, other)) = two
    said = re.search(r"nan: tells: RunError: (.*)", lead).group(1)
    assert said.startswith("process 1 of 2: fit.nan, step 3: loss 'main.l2' is nan")
    assert len(re.findall(r"eye-\d", said.partition("; batch")[2])) == 2  # half the batch
    assert "nan: told: RunError" in other
    assert read_events(folder / "nan" / "events.jsonl")[-1]["kind"] == "failed"
    assert not (folder / "nan" / "weights.safetensors").exists()


def test_a_buffer_that_each_process_fills_by_itself_is_refused_by_name(two):
    assert re.search(r"drifting: tells: RunError: fit.drifting, step 5: 'seen' differs between processes", two[1][0][1])


def test_an_error_of_one_process_ends_all_with_the_same_code(two):
    _, ((lead_code, lead), (other_code, other)) = two
    assert lead_code == other_code == 5
    assert "error: tells: RunError: process 1 of 2: unexpected ValueError: a volume of another kind" in lead
    assert "error: tells: ValueError: a volume of another kind" in other


def test_when_one_process_is_killed_the_others_end_and_all_go_on_to_the_same_bits(three, one, tmp_path):
    with ranked.started(tmp_path, 3, "slow-kill") as processes:
        processes.wait_for(lambda: list(tmp_path.glob("slow-kill/checkpoints/step-*")))
        processes.send(1, signal.SIGKILL)
        began = time.monotonic()
        found = processes.finished()
        assert time.monotonic() - began < 15
    assert found[1][0] == -signal.SIGKILL
    for code, text in (found[0], found[2]):
        assert code == 5
        assert len([line for line in text.splitlines() if line]) == 1
        assert "process 1 of 3 ended without a word" in text
    shutil.copytree(tmp_path / "slow-kill", tmp_path / "slow")
    torch.optim.AdamW, before = ranked.descent, torch.optim.AdamW
    try:
        summary = ranked.run(tmp_path / "slow-kill", "slow")  # one process goes on with what three began
    finally:
        torch.optim.AdamW = before
    assert summary.resumed_from > 0
    assert_equal_to(tmp_path / "slow-kill", one / "slow")
    with ranked.started(tmp_path, 3, "slow") as processes:
        assert [code for code, _ in processes.finished()] == [0, 0, 0]
    assert any(e["kind"] == "resume" for e in read_events(tmp_path / "slow" / "events.jsonl"))
    last = lambda f: ckpt.open_checkpoint(f / "slow" / "checkpoints" / "step-00000012").state["files"]
    assert last(tmp_path) == last(three)
    assert curve(tmp_path / "slow") == curve(three / "slow")  # averages that were not logged yet go on too


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(tmp_path):
    with ranked.started(tmp_path, 2, "slow-stop") as processes:
        processes.wait_for(lambda: list(tmp_path.glob("slow-stop/checkpoints/step-*")))
        processes.send(1, signal.SIGTERM)
        found = processes.finished()
    assert [code for code, _ in found] == [75, 75], found
    assert re.search(r"tells: Stopped: fit.slow: stopped by SIGTERM after step \d+ of 12", found[0][1])
    assert "told: Stopped" in found[1][1]
    newest, problems = ckpt.newest_checkpoint(tmp_path / "slow-stop" / "checkpoints")
    assert not problems and 0 < newest.state["step"] < 12
