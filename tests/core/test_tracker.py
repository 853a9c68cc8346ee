"""What a tracker is told, and what it is not."""

from __future__ import annotations

import json

from gen_core.tracker import LEFT_OUT, Point, Score, sendable

RECIPE = {
    "gen": 1,
    "name": "lungs",
    "seed": 3,
    "dataset": {
        "use": "dicom",
        "root": "patients",
        "subject": "(Doe|Roe)",
        "spacing_mm": [3.0, 1.0, 1.0],
        "masks": {"vein": "vein.png"},
        "classes": {"sex": ["F", "M"]},
        "crop": {"per_volume": 16, "at_mask": "vein"},
        "remove_table": True,
    },
    "split": {"val": 0.25, "seed": 0},
    "condition": {"sex": {"kind": "class", "column": "PatientSex"}},
    "codec": {"use": "vqgan", "from": "other", "norm": "group", "fit": {"betas": [0.5, 0.9], "select": "l1"}},
    "features": {"codec": {"use": "codec", "weights": "net.safetensors"}},
    "metrics": {"fid": {"use": "fid", "features": "features.codec"}},
    "sample": {"format": "npy", "conditions": "/data/doe.csv", "fixed": {"lesion": "~/doe"}},
    "trackers": {"mlflow": {"uri": "http://user:secret@host"}},
}  # fmt: skip


def test_settings_are_told_and_what_names_files_or_people_is_left_out():
    told = sendable(RECIPE)
    assert told["codec"] == {**RECIPE["codec"], "from": LEFT_OUT}
    assert told["metrics"] == RECIPE["metrics"] and told["seed"] == 3 and told["split"] == RECIPE["split"]
    assert told["dataset"]["use"] == "dicom" and told["dataset"]["crop"] == {"per_volume": 16, "at_mask": LEFT_OUT}
    assert told["dataset"]["remove_table"] is True
    text = json.dumps(told)
    for secret in ("patients", "Doe", "doe", "png", "PatientSex", "other", "net.", "secret", "host", '"F"'):
        assert secret not in text, secret


def test_the_recipe_itself_is_not_changed():
    before = json.dumps(RECIPE)
    sendable(RECIPE)
    assert json.dumps(RECIPE) == before


def test_points_are_equal_whenever_they_were_written_and_scores_have_one_place_each():
    a, b = (Point("train", 4, {"loss": 0.5}, time=t) for t in (1.0, 2.0))
    assert a == b and a.named() == {"train/loss": 0.5}
    assert Score("fid", "fid", 3.0, "synthetic", "train").key == "fid/fid/synthetic/train"
    assert Score("psnr", "psnr", 30.0).key == "psnr/psnr"
