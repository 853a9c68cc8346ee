"""Runs as a whole: skip, refuse, fork, share, redo, single steps, more samples, verification."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gen_core.errors import DataError, RecipeError, UsageError
from gen_core.run.api import RunRequest, plan, run, run_single
from gen_core.run.listing import list_runs, verify_run
from gen_core.run.samples.more import sample_more
from gen_core.run.score_folders import evaluate_folders


@pytest.fixture
def finished(recipe, tmp_path):
    """A finished run: its recipe and its folder."""
    outcome = run(RunRequest(recipe, out=tmp_path / "runs" / "small"))
    assert [row["state"] for row in outcome.steps] == ["done"] * 5
    return recipe, outcome.folder


def test_a_run_leaves_lock_samples_manifest_card_scores_and_cost(finished):
    _, folder = finished
    assert {"recipe.lock.toml", "metrics.json", "cost.json", "events.jsonl", "samples"} <= {
        p.name for p in folder.iterdir()
    }
    manifest = json.loads((folder / "samples" / "manifest.json").read_text())
    assert [row["index"] for row in manifest["samples"]] == [0, 1, 2, 3, 4] and manifest["synthetic"]
    assert "Not for diagnosis" in (folder / "samples" / "README.md").read_text()
    assert json.loads((folder / "cost.json").read_text())["steps"]["fit.prior"]["seconds"] > 0
    assert verify_run(folder) == []
    assert list_runs(folder.parent)[0]["unfinished"] == []


def test_the_same_command_again_skips_every_step(finished, states):
    recipe, folder = finished
    assert set(states(run(RunRequest(recipe, out=folder))).values()) == {"skipped"}


def test_a_changed_setting_is_shown_and_refused(finished):
    recipe, folder = finished
    with pytest.raises(UsageError, match=r"prior.options.fit.lr: 0.0001 -> 0.01\n.*--fork"):
        run(RunRequest(recipe, out=folder, overrides=("prior.fit.lr=0.01",)))


def test_a_setting_that_cannot_change_the_result_is_no_change(finished, states):
    recipe, folder = finished
    assert set(states(run(RunRequest(recipe, out=folder, overrides=("prior.fit.log_every=1",)))).values()) == {
        "skipped"
    }


def test_a_fork_shares_the_steps_that_are_equal(finished, states):
    recipe, folder = finished
    outcome = run(RunRequest(recipe, out=folder, fork="other", overrides=("prior.fit.lr=0.01",)))
    assert outcome.folder == folder.parent / "other"
    found = states(outcome)
    assert (found["prepare"], found["encode"]) == ("shared", "shared")
    assert (found["fit.prior"], found["sample"]) == ("done", "done")
    assert verify_run(outcome.folder) == []


def test_a_changed_metric_makes_only_the_scores_again(finished, states):
    recipe, folder = finished
    found = states(run(RunRequest(recipe, out=folder, overrides=("metrics.ms-ssim.pairs=6",))))
    assert found["evaluate"] == "done" and found["sample"] == "skipped"


def test_redoing_a_step_gives_the_same_bytes(finished, states):
    recipe, folder = finished
    before = {p.name: p.read_bytes() for p in (folder / "samples").glob("*.npy")}
    found = states(run(RunRequest(recipe, out=folder, from_step="fit.prior")))
    assert found["fit.prior"] == "done" and found["encode"] == "skipped"
    assert {p.name: p.read_bytes() for p in (folder / "samples").glob("*.npy")} == before


def test_resume_must_and_never_keep_their_word(recipe, finished, tmp_path):
    _, folder = finished
    with pytest.raises(UsageError, match="there is no run"):
        run(RunRequest(recipe, out=tmp_path / "nothing", resume="must"))
    with pytest.raises(UsageError, match="already holds a run"):
        run(RunRequest(recipe, out=folder, resume="never"))


def test_a_step_needs_what_lies_upstream(recipe, tmp_path):
    with pytest.raises(UsageError, match="'sample' needs 'encode', which is not finished"):
        run(RunRequest(recipe, out=tmp_path / "run", only_step="sample"))
    with pytest.raises(UsageError, match="no step 'smaple'; its steps: prepare"):
        run(RunRequest(recipe, out=tmp_path / "run", only_step="smaple"))


def test_steps_can_be_done_one_by_one(recipe, tmp_path):
    folder = tmp_path / "run"
    run(RunRequest(recipe, out=folder, until_step="prepare"))
    assert [row["step"] for row in run_single(folder, "train").steps][-1] == "fit.prior"
    with pytest.raises(UsageError, match="'evaluate' needs 'sample'"):
        run_single(folder, "evaluate")
    run_single(folder, "sample")
    run_single(folder, "evaluate")
    assert (folder / "metrics.json").exists()


def test_shards_and_other_numbers_give_the_same_samples(finished, tmp_path):
    _, folder = finished
    read = lambda where: {p.name: np.load(p) for p in sorted(where.glob("*.npy"))}
    run_samples = read(folder / "samples")
    for i in (1, 2, 3):
        sample_more(folder, 7, shard=(i, 3), out=tmp_path / "shards")
    shards = read(tmp_path / "shards")
    assert len(shards) == 7 and len(list((tmp_path / "shards").glob("manifest-*of3.json"))) == 3
    for name, x in run_samples.items():
        assert np.array_equal(shards[name], x)
    other = sample_more(folder, 2, sampler="dpm++2m", steps=3, format="envi", out=tmp_path / "envi")
    assert other["samples"] == 2 and (tmp_path / "envi" / "sample-000001.hdr").exists()


def test_a_changed_sample_file_is_found(finished):
    _, folder = finished
    file = next((folder / "samples").glob("*.npy"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [p for p in verify_run(folder) if file.name in p and "content changed" in p]
    file.unlink()
    assert [p for p in verify_run(folder) if file.name in p and "missing" in p]


def test_a_dry_run_writes_nothing(recipe, tmp_path):
    found = plan(RunRequest(recipe, out=tmp_path / "run"))
    assert found["missing"] == [] and found["shapes"][-1] == "latent (1, 3, 12, 10)"
    assert not (tmp_path / "run").exists()


def test_an_unknown_sampler_is_refused_by_name(finished):
    _, folder = finished
    with pytest.raises(RecipeError):
        sample_more(folder, 2, sampler="dim")


def test_two_folders_of_cubes_are_scored(finished, tmp_path):
    _, folder = finished
    real = tmp_path / "real"
    sample_more(folder, 8, seed=1, out=real)
    for extra in ("manifest.json", "README.md"):
        (real / extra).unlink()
    overrides = ("metrics.hyperspectral-fid.triplets=2",)
    found = evaluate_folders(real, folder / "samples", out=tmp_path / "scores.json", overrides=overrides)
    sources = {v["source"] for v in found["results"]["hyperspectral-fid"]["values"]}
    assert "synthetic" in sources and (tmp_path / "scores.json").exists()
    with pytest.raises(DataError):
        evaluate_folders(tmp_path / "nowhere", folder / "samples")
