"""`gen anomaly` from files to results: NIfTI volumes about a template; priors that know it, and ones that do not."""

import json

import nibabel
import numpy as np
import pytest
import torch

from gen_core.errors import DataError, RunError, UsageError
from gen_core.run import api
from gen_core.run.anomaly.find import find_anomalies
from gen_core.run.context import RunContext

from .test_partial_noising import Gaussian

SIZE = (4, 9, 11)  # D, H, W
SD = 3.0  # of values 0..100

RECIPE = """
# A run of seconds.  gen run small.toml
gen = 1
name = "healthy"
[volume]
size = [4, 9, 11]
[split]
val = 0.4
[dataset]
use = "nifti"
root = "{root}"
orientation = "stored"
[dataset.scale]
mode = "window"
lo = 0.0
hi = 100.0
[codec]
use = "identity"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
attention = "none"
steps = 100
[prior.fit]
steps = 2
batch = 2
[sampler]
use = "ddim"
[sample]
n = 2
batch = 3
steps = 20
"""


def template():
    """(D, H, W) in 20..60."""
    return 20 + 40 * np.random.default_rng(7).random(SIZE)


def lesion(k):
    """(D, H, W) bool, another place for each k."""
    mask = np.zeros(SIZE, bool)
    mask[k % 3 : k % 3 + 2, 2 + k : 5 + k, 4:8] = True
    return mask


def write(folder, name, volume):
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(
        nibabel.Nifti1Image(volume.astype(np.float32).transpose(2, 1, 0), np.eye(4)), folder / f"{name}.nii.gz"
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A finished run on five healthy volumes; a folder of three healthy and two lesioned ones; masks of the latter."""
    root = tmp_path_factory.mktemp("anomaly")
    g = np.random.default_rng(0)
    for k in range(5):
        write(root / "healthy", f"h{k}", template() + SD * g.normal(size=SIZE))
    for k in range(3):
        write(root / "mixed", f"a{k}", template() + SD * g.normal(size=SIZE))
    for k in range(2):
        write(root / "mixed", f"b{k}", template() + SD * g.normal(size=SIZE) + 30 * lesion(k))
        write(root / "masks", f"b{k}", lesion(k))
    recipe = root / "small.toml"
    recipe.write_text(RECIPE.replace("{root}", str(root / "healthy")))
    api.run(api.RunRequest(recipe, out=root / "run"))
    return root


@pytest.fixture
def knowing(monkeypatch):
    """Runs have the exact prior of healthy volumes, in [-1, 1]."""
    mean = torch.from_numpy(template() / 50 - 1).float()[None]
    prior = Gaussian(mean, SD / 50)
    prior.shape = (1, *SIZE)
    monkeypatch.setattr(RunContext, "prior", lambda self: prior)


def of_t(found, t):
    return next(row for row in found["times"] if row["t"] == t)


def test_a_knowing_prior_finds_the_lesions_of_a_folder(world, knowing, tmp_path):
    found = find_anomalies(
        world / "run", str(world / "mixed"), (300, 100, 2), masks=str(world / "masks"), n=4, out=tmp_path, smooth=0.5
    )
    at = of_t(found, 300)
    assert at["auroc voxels"] > 0.99 and at["dice"] > 0.8 and at["average precision"] > 0.9
    assert set(at["auroc volumes"].values()) == {1.0}
    assert of_t(found, 2)["auroc voxels"] < at["auroc voxels"] and found["best"]["t"] in (300, 100)
    assert [v["id"] for v in found["volumes"]] == ["a0", "a1", "a2", "b0", "b1"]
    assert [v["mask_voxels"] for v in found["volumes"]] == [0, 0, 0, 24, 24]
    assert found["protocol"]["mask"] == "anomaly" and found["protocol"]["draws"] == 4


def test_maps_results_and_figure_are_written(world, knowing, tmp_path):
    found = find_anomalies(
        world / "run", str(world / "mixed"), (300, 0), masks=str(world / "masks"), out=tmp_path, format="nifti"
    )
    written = json.loads((tmp_path / "anomaly.json").read_text())
    assert {**written, "folder": str(tmp_path)} == found
    for row in written["volumes"]:
        for t in ("300", "0"):
            npy, nifti, *_ = row["files"][t]
            found_map = np.load(tmp_path / npy)
            assert found_map.shape == SIZE and found_map.dtype == np.float32
            assert np.allclose(nibabel.load(tmp_path / nifti).get_fdata().transpose(2, 1, 0), found_map, atol=1e-6)
            assert row["scores"][t]["mean"] == pytest.approx(found_map.mean(), abs=1e-6)
    assert np.load(tmp_path / written["volumes"][0]["files"]["0"][0]).max() == 0  # the codec keeps everything
    picture = (tmp_path / "anomaly.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) > 10_000


def test_one_file_and_its_mask(world, knowing, tmp_path):
    image, mask = world / "mixed" / "b1.nii.gz", world / "masks" / "b1.nii.gz"
    found = find_anomalies(world / "run", str(image), (300,), masks=str(mask), n=4, out=tmp_path / "one")
    assert [v["id"] for v in found["volumes"]] == ["b1"]
    assert of_t(found, 300)["auroc voxels"] > 0.99 and set(of_t(found, 300)["auroc volumes"].values()) == {None}
    whole = find_anomalies(world / "run", str(world / "mixed"), (300,), n=4, out=tmp_path / "all")
    one, same = (np.load(tmp_path / a / f["volumes"][k]["files"]["300"][0]) for a, f, k in
                 (("one", found, 0), ("all", whole, 4)))  # fmt: skip
    assert np.allclose(one, same, atol=1e-6)
    assert "auroc voxels" not in of_t(whole, 300) and whole["best"] is None


def test_patterns_name_masks_too(world, knowing, tmp_path):
    pattern = str(world / "masks" / "{stem}.nii.gz")
    found = find_anomalies(world / "run", str(world / "mixed"), (300,), masks=pattern, out=tmp_path)
    assert [v["positive"] for v in found["volumes"]] == [False] * 3 + [True] * 2


def test_a_split_of_the_run_by_its_own_prior_in_any_batch(world, tmp_path):
    found = {}
    for batch in (1, 5):
        out = tmp_path / str(batch)
        found[batch] = find_anomalies(world / "run", "val", (30, 0), n=2, batch=batch, out=out, steps=10)
    for one, other in zip(found[1]["volumes"], found[5]["volumes"]):
        maps = [np.load(tmp_path / b / v["files"]["30"][0]) for b, v in (("1", one), ("5", other))]
        assert np.allclose(*maps, atol=1e-4) and maps[0].mean() > 0.05
    assert len(found[1]["volumes"]) == 2 and of_t(found[1], 30)["steps"] == 3
    assert of_t(found[1], 0) == {"t": 0, "steps": 0, "score": 0.0}
    again = find_anomalies(world / "run", "val", (30,), n=2, batch=5, out=tmp_path / "again", steps=10)
    first = again["volumes"][0]["files"]["30"][0]
    assert (tmp_path / "again" / first).read_bytes() == (tmp_path / "5" / first).read_bytes()


def test_another_sampler_and_another_data_set(world, tmp_path):
    settings = ('dataset.use="brain-mri-phantom"', "dataset.subjects=4", "dataset.lesions=1.0")
    found = find_anomalies(
        world / "run", "val", (20,), sampler="ddpm", steps=5, out=tmp_path, overrides=settings, limit=1, mask="lesion"
    )
    assert found["protocol"]["sampler"] == "ddpm" and len(found["volumes"]) == 1
    assert found["volumes"][0]["mask_voxels"] >= 0 and found["volumes"][0]["id"].startswith("head-")


def test_what_cannot_be_is_said_in_one_line(world, tmp_path):
    run = world / "run"
    for error, message, where, more in (
        (DataError, "no such file or folder, and no split", str(world / "gone"), {}),
        (UsageError, r"t = 101: expected 0\.\.100", "val", {"times": (101,)}),
        (UsageError, "--mask lesion: no such mask", "val", {"mask": "lesion"}),
        (UsageError, "one file for a folder", str(world / "mixed"), {"masks": str(world / "masks" / "b0.nii.gz")}),
        (DataError, "no such file or folder", str(world / "mixed"), {"masks": str(world / "gone")}),
        (UsageError, "--condition kind: not declared", "val", {"conditions": {"kind": "healthy"}}),
        (DataError, "volumes are", "val", {"overrides": ('dataset.use="brain-mri-phantom"', "volume.size=[4,8,8]")}),
        (UsageError, "reads no files", str(world / "mixed"), {"overrides": ('dataset.use="brain-mri-phantom"',)}),
    ):
        with pytest.raises(error, match=message):
            find_anomalies(run, where, more.pop("times", (10,)), out=tmp_path / "out", **more)
    with pytest.raises(UsageError, match="no run here"):
        find_anomalies(tmp_path, "val", (10,))


def test_a_map_that_is_not_finite_ends_with_its_volume(world, knowing, tmp_path):
    RunContext.prior(None).mean[:] = float("nan")
    with pytest.raises(RunError, match="h[0-9]: the map at t = 50 is not finite"):
        find_anomalies(world / "run", "val", (50,), out=tmp_path)


def test_a_run_whose_prior_draws_in_one_step_is_refused(world, tmp_path):
    text = RECIPE.replace("{root}", str(world / "healthy"))
    start, end = text.index("[prior]"), text.index("[sampler]")
    recipe = tmp_path / "direct.toml"
    recipe.write_text(text[:start] + '[prior]\nuse = "standard-normal"\n' + text[end:])
    api.run(api.RunRequest(recipe, out=tmp_path / "run"))
    with pytest.raises(UsageError, match="'standard-normal' draws in one step"):
        find_anomalies(tmp_path / "run", "val", (10,))


def test_a_run_that_is_not_finished_is_refused(world, tmp_path):
    api.run(api.RunRequest(world / "small.toml", out=tmp_path / "run", until_step="encode"))
    with pytest.raises(UsageError, match="'fit.prior' is not finished"):
        find_anomalies(tmp_path / "run", "val", (10,))


def test_a_table_that_is_not_beside_the_volumes_is_done_without(world, knowing, tmp_path):
    settings = ('dataset.table="people.tsv"', 'dataset.scalars=["age"]')
    found = find_anomalies(world / "run", str(world / "mixed"), (20,), out=tmp_path, limit=1, overrides=settings)
    assert "people.tsv: not there" in found["said"][0] and len(found["volumes"]) == 1
