"""Samples under conditions: of real volumes, of a table, of another run; the same bytes for any sharding."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gen_core.errors import DataError, RecipeError, UsageError
from gen_core.run import api, opening
from gen_core.run.samples.more import sample_more
from gen_core.run.samples.store import SampleStore
from gen_core.run.scoring.parts import Part, Parts

MORE = """
[condition.deposits]
kind = "scalar"
[condition.vein]
kind = "mask"
[condition.deposits-too]           # a second condition of one name in the data set
kind = "scalar"
of = "deposits"
[evaluate.classes]
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run of a conditional prior; five samples."""
    from ..conftest import RECIPE

    folder = tmp_path_factory.mktemp("conditions")
    recipe = folder / "small.toml"
    text = RECIPE.replace("size = [3, 12, 10]", "size = [3, 24, 20]") + MORE
    recipe.write_text(text.replace("subjects = 12", "subjects = 12\ndeposits = 0.5"))
    api.run(api.RunRequest(recipe, out=folder / "run"))
    return folder / "run"


def rows(folder) -> list[dict]:
    return json.loads((folder / "manifest.json").read_text())["samples"]


def test_samples_take_the_conditions_of_training_volumes_and_the_manifest_says_whose(run_dir):
    run = opening.open_run(run_dir)
    train = {s["id"] for s in rows(run_dir / "samples")}
    assert len(train) == 5
    for row in rows(run_dir / "samples"):
        told = row["condition"]
        assert told["deposits"] in (0.0, 1.0) and told["vein"]["of"].startswith("eye-")
    assert run[0].conditions["vein"].kind == "mask"


def test_masks_that_samples_follow_are_kept_at_voxel_size_and_written_beside_them(run_dir):
    store = SampleStore(run_dir / "steps" / "sample", 2)
    asked = [row["condition"]["vein"]["voxels"] for row in rows(run_dir / "samples")]
    for i, row in enumerate(rows(run_dir / "samples")):
        mask = store[i].masks["vein"]
        assert mask.shape == (3, 24, 20) and mask.any() == (asked[i] > 0)
        with np.load(run_dir / "samples" / f"{row['id']}-masks.npz") as written:
            assert written["vein"].sum() > 0 or asked[i] == 0
        assert store[i].condition["deposits"] == row["condition"]["deposits"]


def test_shards_give_the_same_bytes_under_conditions(run_dir, tmp_path):
    sample_more(run_dir, 5, out=tmp_path / "whole")
    for k in (1, 2):
        sample_more(run_dir, 5, out=tmp_path / "parts", shard=(k, 2))
    files = sorted(p.name for p in (tmp_path / "whole").glob("sample-*"))
    assert len(files) == 15
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_fixed_values_hold_for_every_sample_and_change_it(run_dir, tmp_path):
    sample_more(run_dir, 3, out=tmp_path / "a", fixed={"deposits": "0"}, guidance=4.0)
    sample_more(run_dir, 3, out=tmp_path / "b", fixed={"deposits": "unknown"}, guidance=4.0)
    assert [r["condition"]["deposits"] for r in rows(tmp_path / "a")] == [0.0] * 3
    assert [r["condition"]["deposits"] for r in rows(tmp_path / "b")] == [None] * 3


def test_a_table_is_read_row_by_row_from_the_top_again(run_dir, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("deposits\n1\n0.25\nunknown\n")
    sample_more(run_dir, 4, out=tmp_path / "out", conditions=str(table))
    assert [r["condition"]["deposits"] for r in rows(tmp_path / "out")] == [1.0, 0.25, None, 1.0]
    assert all(r["condition"]["vein"] is None for r in rows(tmp_path / "out"))


def test_another_runs_samples_hand_on_their_conditions(run_dir, tmp_path):
    sample_more(run_dir, 6, out=tmp_path / "out", conditions=str(run_dir))
    theirs, ours = rows(run_dir / "samples"), rows(tmp_path / "out")
    for i, row in enumerate(ours):
        assert row["condition"]["deposits"] == theirs[i % 5]["condition"]["deposits"]
        assert row["condition"]["vein"]["of"] == theirs[i % 5]["id"]


def test_a_mask_file_is_followed_by_every_sample(run_dir, tmp_path):
    mask = np.zeros((24, 20, 3), np.uint8)  # as cubes are stored: y, x, bands
    mask[3:9, 4:6] = 1
    np.save(tmp_path / "mask.npy", mask)
    sample_more(run_dir, 2, out=tmp_path / "out", fixed={"vein": str(tmp_path / "mask.npy")})
    assert [r["condition"]["vein"]["voxels"] for r in rows(tmp_path / "out")] == [36, 36]


@pytest.mark.parametrize(
    "fixed, message",
    [
        ({"depositz": "1"}, "no condition 'depositz' is declared.*did you mean 'deposits'"),
        ({"deposits": "many"}, "'deposits' is a number, got 'many'"),
    ],
)
def test_wrong_conditions_are_refused(run_dir, tmp_path, fixed, message):
    with pytest.raises(UsageError, match=message):
        sample_more(run_dir, 1, out=tmp_path / "out", fixed=fixed)


def test_masks_of_another_size_and_unknown_sources_are_refused(run_dir, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(DataError, match=r"the mask is \(3, 5, 6\), volumes are \(3, 24, 20\)"):
        sample_more(run_dir, 1, out=tmp_path / "out", fixed={"vein": str(tmp_path / "small.npy")})
    with pytest.raises(UsageError, match="neither train, val, none, a .csv file nor a run"):
        sample_more(run_dir, 1, out=tmp_path / "out", conditions="nowhere")
    (tmp_path / "bad.csv").write_text("age\n3\n")
    with pytest.raises(DataError, match="column 'age' is no declared condition"):
        sample_more(run_dir, 1, out=tmp_path / "out", conditions=str(tmp_path / "bad.csv"))


def test_scores_by_class_need_a_class_condition(tmp_path, small_recipe):
    recipe = tmp_path / "small.toml"
    recipe.write_text(small_recipe + MORE + 'of = "deposits"\nmetrics = ["metrics.ms-ssim"]\n')
    with pytest.raises(RecipeError, match="no such class condition; there are none"):
        api.run(api.RunRequest(recipe, out=tmp_path / "run"))


def test_parts_count_and_pick_their_volumes():
    import torch

    from gen_core.batch import Batch

    batch = Batch(
        x=torch.arange(4.0).view(4, 1, 1, 1, 1),
        ids=[f"sample-{i:06d}" for i in range(4)],
        condition={"nodule": torch.tensor([1, 0, 1, -1])},
    )
    solid, everything = Part("nodule solid", ("metrics.fid",), "nodule", 1), Part("unfiltered", (), rejected=True)
    aside = frozenset({"sample-000002"})
    assert solid.of_batch(batch, "synthetic", aside).x.flatten().tolist() == [0.0]
    assert solid.of_batch(batch, "val", aside).ids == ["sample-000000", "sample-000002"]
    assert everything.of_batch(batch, "synthetic", aside) is batch
    assert Part().of_batch(batch, "synthetic", aside).ids == ["sample-000000", "sample-000001", "sample-000003"]
    parts = Parts((Part(), solid, everything), aside, {"val": [1, 1, 0], "synthetic": [1, 0, 1, -1]})
    counts = {"val": 3, "reconstruction": 3, "synthetic": 4}
    assert parts.counts(solid, counts) == {"val": 2, "reconstruction": 2, "synthetic": 1}
    assert parts.counts(everything, counts)["synthetic"] == 4 and parts.counts(Part(), counts)["synthetic"] == 3
