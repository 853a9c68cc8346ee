"""Samples that a judge finds unfit: out of the scores, out of the set, and back again when the recipe changes."""

from __future__ import annotations

import json

import pytest

from gen_core.errors import RecipeError, RunError, UsageError
from gen_core.run.api import RunRequest, run
from gen_core.run.listing import verify_run


@pytest.fixture
def judging(tmp_path, monkeypatch, small_recipe):
    """A run whose metric ms-ssim rejects sample 1 and 4; returns (recipe path, outcome)."""
    from gen_metrics.ms_ssim import MsSsim

    why = {"sample-000001": "a twin of sample 0", "sample-000004": "black"}
    monkeypatch.setattr(MsSsim, "judge", lambda self: why)
    path = tmp_path / "judged.toml"
    path.write_text(small_recipe + '[evaluate.reject]\nby = ["metrics.ms-ssim"]\n')
    return path, run(RunRequest(path, out=tmp_path / "runs" / "judged"))


def kept(folder):
    return [row["id"] for row in json.loads((folder / "samples" / "manifest.json").read_text())["samples"]]


def test_rejected_samples_leave_the_set_with_their_reasons(judging, states):
    _, outcome = judging
    samples = outcome.folder / "samples"
    assert states(outcome)["reject"] == "done"
    assert kept(outcome.folder) == ["sample-000000", "sample-000002", "sample-000003"]
    rows = json.loads((samples / "rejected" / "rejected.json").read_text())["samples"]
    assert {r["id"]: r["reasons"] for r in rows} == {
        "sample-000001": ["ms-ssim: a twin of sample 0"],
        "sample-000004": ["ms-ssim: black"],
    }
    assert sorted(p.stem for p in samples.glob("*.npy")) == kept(outcome.folder)
    assert sorted(p.stem for p in (samples / "rejected").glob("*.npy")) == ["sample-000001", "sample-000004"]
    assert verify_run(outcome.folder) == []


def test_only_accepted_samples_are_scored(judging):
    _, outcome = judging
    values = json.loads((outcome.folder / "metrics.json").read_text())["results"]["ms-ssim"]["values"]
    pairs_of_three = 3
    assert [v["n"] for v in values if v["source"] == "synthetic"] == [pairs_of_three]


def test_a_recipe_without_judges_takes_the_samples_back(judging, states):
    path, outcome = judging
    again = run(RunRequest(path, out=outcome.folder, overrides=("evaluate.reject.by=[]",)))
    assert states(again)["evaluate"] == "done" and "reject" not in states(again)
    assert kept(outcome.folder) == [f"sample-{i:06d}" for i in range(5)]
    assert not list((outcome.folder / "samples" / "rejected").glob("*.npy"))
    assert verify_run(outcome.folder) == []


def test_a_metric_without_judgement_refuses(tmp_path, small_recipe):
    path = tmp_path / "judged.toml"
    path.write_text(small_recipe + '[evaluate.reject]\nby = ["metrics.ms-ssim"]\n')
    with pytest.raises(UsageError, match=r"\[evaluate.reject\] by: MsSsim does not judge"):
        run(RunRequest(path, out=tmp_path / "run"))


def test_a_judge_that_leaves_nothing_stops_the_run(tmp_path, monkeypatch, small_recipe):
    from gen_metrics.ms_ssim import MsSsim

    monkeypatch.setattr(MsSsim, "judge", lambda self: {f"sample-{i:06d}": "black" for i in range(5)})
    path = tmp_path / "judged.toml"
    path.write_text(small_recipe + '[evaluate.reject]\nby = ["metrics.ms-ssim"]\n')
    with pytest.raises(RunError, match="would set aside all 5 samples"):
        run(RunRequest(path, out=tmp_path / "run"))
    assert len(list((tmp_path / "run" / "samples").glob("*.npy"))) == 5


def test_an_unknown_judge_is_named_with_those_there_are(tmp_path, small_recipe):
    path = tmp_path / "judged.toml"
    path.write_text(small_recipe + '[evaluate.reject]\nby = ["metrics.ms-sim"]\n')
    with pytest.raises(RecipeError, match=r"judged.toml:\d+: .*metrics.ms-ssim"):
        run(RunRequest(path, out=tmp_path / "run"))
