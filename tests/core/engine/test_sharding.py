"""Weights cut over processes give what whole ones give, are cut indeed, and go on from each other's checkpoints."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gen_core.engine import checkpoint as ckpt
from gen_core.engine.events import read_events
from gen_core.engine.ranks import Ranks
from gen_core.engine.sharding import Shards, require_shardable
from gen_core.errors import RecipeError
from gen_core.options import FitOptions


def _load():
    spec = importlib.util.spec_from_file_location("engine_ranked", Path(__file__).with_name("ranked.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine_ranked"] = module
    spec.loader.exec_module(module)
    return module


ranked = _load()


def alone(folder: Path, case: str):
    """One process with the whole batch and plain descent."""
    usual, torch.optim.AdamW = torch.optim.AdamW, ranked.descent
    try:
        return ranked.run(folder, case)
    finally:
        torch.optim.AdamW = usual


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    alone(folder / "whole", "whole")
    return folder / "whole"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes, stopped in the last case: the folder, and what each said."""
    folder = tmp_path_factory.mktemp("two")
    cases = "cut", "whole-adam", "cut-adam", "slow-cut", "slow-cut-stop"
    with ranked.started(folder, 2, *cases) as processes:
        processes.wait_for(lambda: list(folder.glob("slow-cut-stop/checkpoints/step-*")))
        processes.send(1, signal.SIGTERM)
        found = processes.finished()
    assert (folder / "slow-cut" / "weights.safetensors").exists(), found
    return folder, [said for _, said in found]


@pytest.fixture(scope="module")
def again(two, one, tmp_path_factory):
    """Two processes go on: after the stop, and from what one began; then one of them fails, and they end."""
    folder = tmp_path_factory.mktemp("again")
    shutil.copytree(two[0] / "slow-cut-stop", folder / "slow-cut")
    halfway(one, folder / "cut")
    with ranked.started(folder, 2, "slow-cut", "cut", "cut-nan", "cut-gan", "cut-error") as processes:
        return folder, processes.finished()


def halfway(fitted: Path, folder: Path) -> None:
    """`fitted` as it was when only its first checkpoint was there."""
    shutil.copytree(fitted / "checkpoints" / "step-00000003", folder / "checkpoints" / "step-00000003")


def assert_equal(ours: Path, theirs: Path, within: float = 1e-6) -> None:
    a, b = load_file(ours), load_file(theirs)
    assert a.keys() == b.keys()
    for name, value in b.items():
        torch.testing.assert_close(a[name], value, rtol=within, atol=within, msg=lambda m, n=name: f"{n}: {m}")


LAST = Path("checkpoints", "step-00000005")


@pytest.mark.parametrize("file", ["weights.safetensors", LAST / "weights.safetensors", LAST / "ema.safetensors"])
def test_two_processes_with_half_the_weights_equal_one_with_all(one, two, file):
    start = ranked.started_weights("whole")
    fitted = load_file(one / file)
    assert max(float((fitted[k] - start[k]).abs().max()) for k in fitted if k.startswith("network.")) > 1e-3
    assert_equal(two[0] / "cut" / file, one / file)


def test_adam_on_pieces_takes_the_same_steps(two):
    ours, theirs = (load_file(two[0] / case / LAST / "weights.safetensors") for case in ("cut-adam", "whole-adam"))
    moments = load_file(two[0] / "whole-adam" / LAST / "optimizer-main.safetensors")
    apart, compared = [], 0
    for name in (key.removesuffix("/exp_avg_sq") for key in moments if key.endswith("/exp_avg_sq")):
        # a bias before a norm has no gradient but rounding errors, of which Adam makes whole steps
        has_gradient = moments[f"{name}/exp_avg_sq"].sqrt() > 1e-5
        difference = (ours[name] - theirs[name]).abs()[has_gradient]
        compared += len(difference)
        apart += difference[difference > 1e-6].tolist()
    assert compared > 0.9 * sum(v.numel() for v in theirs.values())
    # where a gradient changes its sign it vanishes for once
    assert len(apart) < 1e-3 * compared and max(apart, default=0.0) < 1e-3


def test_each_process_holds_half_of_all_that_belongs_to_a_weight(two):
    for said in two[1]:
        held = json.loads(re.search(r"cut-adam: holds (.*)", said).group(1))
        half = held["whole"] / 2
        assert held["weights"] == held["averages"] == pytest.approx(half, rel=0.02)
        assert held["moments"] == 2 * held["weights"]
        assert held["stored"] == pytest.approx(half, rel=0.05)  # pieces are stored in equal sizes


def test_validation_says_what_one_process_says(one, two):
    values = lambda f: [e["values"] for e in read_events(f / "events.jsonl") if e["kind"] == "validation"]
    ours, theirs = values(two[0] / "cut"), values(one)
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs):
        assert a == pytest.approx(b, rel=1e-5)


def test_the_best_weights_are_kept_whole(two):
    best = [list((two[0] / case / "checkpoints").glob("best-*")) for case in ("cut-adam", "whole-adam")]
    assert [p.name for p in best[0]] == [p.name for p in best[1]] != []


def test_a_signal_to_one_process_stops_all_with_a_checkpoint_that_goes_on_to_the_same_bits(two, again):
    folder, (lead, other) = two
    assert re.search(r"slow-cut-stop: tells: Stopped: fit.cut: stopped by SIGTERM after step \d+ of 8", lead)
    assert "slow-cut-stop: told: Stopped" in other
    resumed = [e for e in read_events(again[0] / "slow-cut" / "events.jsonl") if e["kind"] == "resume"]
    assert len(resumed) == 1 and 0 < resumed[0]["step"] < 8
    files = lambda f: ckpt.open_checkpoint(f / "slow-cut" / "checkpoints" / "step-00000008").state["files"]
    assert files(again[0]) == files(folder)


def test_what_one_process_began_two_go_on_with(one, again):
    assert_equal(again[0] / "cut" / "weights.safetensors", one / "weights.safetensors")


def test_what_two_processes_began_one_goes_on_with(one, two, tmp_path):
    halfway(two[0] / "cut", tmp_path)
    assert alone(tmp_path, "whole").resumed_from == 3
    assert_equal(tmp_path / "weights.safetensors", one / "weights.safetensors")


@pytest.fixture(scope="module")
def three(two, tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    halfway(two[0] / "cut", folder / "cut")
    with ranked.started(folder, 3, "cut", "cut-unet", "cut-score") as processes:
        found = processes.finished()
    assert [code for code, _ in found] == [0, 0, 0], found
    return folder


@pytest.mark.slow
def test_three_processes_go_on_with_uneven_and_empty_pieces(one, three):
    assert_equal(three / "cut" / "weights.safetensors", one / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["unet", "score"])
def test_other_networks_are_cut_too_their_activations_computed_again(three, tmp_path, prior):
    alone(tmp_path, f"whole-{prior}")
    assert_equal(three / f"cut-{prior}" / "weights.safetensors", tmp_path / "weights.safetensors")


def test_not_a_number_stops_all_and_names_the_process_and_its_samples(again):
    (_, lead), (_, other) = again[1]
    said = re.search(r"cut-nan: tells: RunError: (.*)", lead).group(1)
    assert said.startswith("process 1 of 2: fit.cut, step 3: loss 'main.loss' is nan: eye-")
    assert "cut-nan: told: RunError" in other


def test_an_error_where_the_others_cannot_leave_ends_all(again):
    (lead_code, lead), (other_code, other) = again[1]
    assert lead_code == other_code == 5
    assert "process 1 of 2: a volume of another kind" in lead
    assert "cut-error: tells: ValueError: a volume of another kind" in other


def test_all_processes_refuse_what_cannot_be_cut(again):
    (_, lead), (_, other) = again[1]
    assert "cut-gan: tells: RecipeError: fit.shard = true: DcganPrior cannot be cut over processes" in lead
    assert "cut-gan: told: UsageError: fit.shard = true: DcganPrior cannot be cut" in other


class _Two(Ranks):
    world = 2


REFUSED = {
    "this is one process alone": ({}, Ranks(), "cut"),
    "fit.select = 'metrics.fid' draws samples in one process": ({"select": "metrics.fid"}, _Two(), "cut"),
    "Plain cannot be cut over processes": ({}, _Two(), "plain"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_cut_is_refused_in_one_line(why):
    settings, ranks, case = REFUSED[why]
    with pytest.raises(RecipeError, match=f"^fit.shard = true: {why}[^\n]*$"):
        require_shardable(ranked.BUILD[case]()[0], FitOptions(shard=True, **settings), ranks)


def test_several_groups_are_refused_by_name():
    module, _ = ranked.BUILD["cut"]()
    module.groups = lambda: {"generator": [module.network], "critic": [module.embedding]}
    with pytest.raises(RecipeError, match=r"several groups \(generator, critic\)"):
        require_shardable(module, FitOptions(shard=True), _Two())


def test_nothing_cut_changes_nothing():
    shards, tensors = Shards(), {"a": torch.arange(3.0)}
    assert not shards
    assert shards.whole(tensors)["a"] is shards.ours(tensors)["a"] is tensors["a"]
