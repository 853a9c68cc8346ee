"""`gen anomaly`: what it asks of core, what it prints, and a tiny run from end to end."""

import json

import pytest

from gen_core.run import api
from gen_core.run.anomaly import find as anomaly

RESULTS = {
    "folder": "there",
    "times": [
        {"t": 300, "steps": 15, "score": 0.51234567, "auroc voxels": 0.912345, "average precision": 0.4, "dice": 0.5,
         "threshold": 0.2, "auroc volumes": {"top 1 %": 0.75, "mean": 0.6}},
        {"t": 0, "steps": 0, "score": 0.0, "auroc voxels": None, "average precision": None, "dice": None,
         "threshold": None, "auroc volumes": {"top 1 %": None, "mean": None}},
    ],
    "best": {"t": 300, "by": "auroc voxels"},
    "volumes": [{"id": "a"}, {"id": "b"}],
    "said": ["nothing is known"],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr(anomaly, "find_anomalies", lambda *args, **more: calls.append((args, more)) or RESULTS)
    return calls


def test_every_option_is_handed_on(gen, asked, tmp_path):
    words = "--t 40,20 --masks m --mask lesion --n 3 --sampler ddpm --steps 7 --condition kind=healthy "
    words += "--condition lesion=empty --guidance 2.5 --smooth 1.5 --minus-codec --seed 4 --batch 6 --limit 9 "
    words += "--format nifti --set dataset.lesions=1.0 --device cpu"
    result = gen("anomaly", "--run", "r", "--input", "val", "--out", tmp_path, *words.split())
    assert result.exit_code == 0, result.stderr
    ((args, more),) = asked
    assert [str(a) for a in args] == ["r", "val", "(40, 20)"]
    assert more.pop("progress") is not None
    assert more == {
        "masks": "m", "mask": "lesion", "out": tmp_path, "n": 3, "sampler": "ddpm", "steps": 7,
        "conditions": {"kind": "healthy", "lesion": "empty"}, "guidance": 2.5, "smooth": 1.5, "minus_codec": True,
        "seed": 4, "batch": 6, "limit": 9, "format": "nifti", "overrides": ("dataset.lesions=1.0",), "device": "cpu",
    }  # fmt: skip


def test_the_published_times_are_the_default(gen, asked):
    gen("anomaly", "--run", "r", "--input", "val")
    assert asked[0][0][2] == (300, 200, 100, 50, 25)


def test_the_table_has_a_row_a_time(gen, asked):
    lines = gen("anomaly", "--run", "r", "--input", "val").stdout.splitlines()
    assert lines[0].split("  ")[0] == "t" and "auroc voxels" in lines[0] and "auroc volumes" in lines[0]
    assert lines[1].split() == ["300", "15", "0.5123", "0.9123", "0.4", "0.5", "0.2", "0.75"]
    assert lines[2].split() == ["0", "0", "0", "-", "-", "-", "-", "-"]
    assert lines[3:] == ["! nothing is known", "best t: 300 (by auroc voxels)", "2 volumes: there"]


def test_json_is_one_object(gen, asked):
    assert json.loads(gen("anomaly", "--run", "r", "--input", "val", "--json").stdout) == RESULTS


def test_wrong_words_are_refused(gen, asked):
    for words, said in (
        (("--t", "a,b"), "expected whole numbers"),
        (("--n", "0"), "greater than or equal to 1"),
        (("--condition", "healthy"), "expected NAME=VALUE"),
    ):
        result = gen("anomaly", "--run", "r", "--input", "val", *words)
        assert result.exit_code == 2 and said in result.stderr
    assert asked == []


RECIPE = """
# A run of seconds.  gen run small.toml
gen = 1
name = "small"
[volume]
size = [1, 12, 10]
[dataset]
use = "brain-mri-phantom"
subjects = 8
lesions = 0.0
workers = 1
[codec]
use = "identity"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
attention = "none"
steps = 20
[prior.fit]
steps = 2
batch = 2
[sampler]
use = "ddim"
[sample]
n = 2
batch = 4
steps = 10
"""


def test_a_tiny_run_trained_on_healthy_heads_and_shown_lesions(gen, tmp_path):
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)
    api.run(api.RunRequest(recipe, out=tmp_path / "run"))
    words = ["--set", "dataset.lesions=1.0", "--set", "dataset.lesion_mm=[30, 50]", "--t", "10,4,0", "--n", "2"]
    result = gen("anomaly", "--run", tmp_path / "run", "--input", "val", "--mask", "lesion", *words, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    folder = tmp_path / "run" / "anomaly-val"
    assert json.loads((folder / "anomaly.json").read_text())["times"] == found["times"]
    assert [row["steps"] for row in found["times"]] == [5, 2, 0] and (folder / "anomaly.png").exists()
    assert sum(v["mask_voxels"] for v in found["volumes"]) > 0
    assert 0 <= found["times"][0]["auroc voxels"] <= 1
    missing = gen("anomaly", "--run", tmp_path / "run", "--input", tmp_path / "gone", "--t", "4")
    assert missing.exit_code == 4 and missing.stderr.count("\n") == 1 and "no such file or folder" in missing.stderr
