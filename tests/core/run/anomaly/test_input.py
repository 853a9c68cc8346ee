"""Volumes for anomaly maps: scales, masks from files, and what a conditional prior is told of them."""

import numpy as np
import pytest
import torch

from gen_core.engine.device import resolve_device
from gen_core.errors import UsageError
from gen_core.run import api, opening
from gen_core.run.anomaly.find import find_anomalies
from gen_core.run.anomaly.input import Told, _OnScale, open_input
from gen_core.run.context import RunContext
from gen_core.run.progress import Silent
from gen_core.volume import Sample, Scale, VolumeSpec

SIZE = (3, 24, 20)
MORE = """
[condition.deposits]
kind = "scalar"
[condition.fovea]
kind = "mask"
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished run of a conditional prior."""
    from ..conftest import RECIPE

    folder = tmp_path_factory.mktemp("told")
    text = RECIPE.replace("size = [3, 12, 10]", "size = [3, 24, 20]") + MORE
    recipe = folder / "small.toml"
    recipe.write_text(text.replace("subjects = 12", "subjects = 12\ndeposits = 0.5"))
    api.run(api.RunRequest(recipe, out=folder / "run", until_step="fit.prior"))
    return folder / "run"


@pytest.fixture
def ctx(run_dir):
    recipe, registry, folder = opening.open_run(run_dir)
    return RunContext(recipe, registry, folder, resolve_device("cpu"), Silent(), None)


# What the prior is told


def test_nothing_is_told_unless_asked_for_least_of_all_a_volume_s_own_masks(ctx):
    samples = [ctx.split("val")[i] for i in range(3)]
    assert any(s.masks["fovea"].any() for s in samples) and "deposits" in samples[0].condition
    told = Told(ctx, {}).of(samples)
    assert set(told.values) == {"deposits", "fovea"}
    assert not any(p.any() for p in told.present.values()) and not any(v.any() for v in told.values.values())


def test_fixed_values_hold_for_all_and_an_empty_mask_is_known_to_be_empty(ctx):
    samples = [ctx.split("val")[i] for i in range(3)]
    told = Told(ctx, {"deposits": "1", "fovea": "empty"}).of(samples)
    assert told.present["deposits"].all() and told.values["deposits"].tolist() == [1.0, 1.0, 1.0]
    assert told.present["fovea"].all() and told.values["fovea"].abs().max() == 0


def test_own_values_are_those_of_each_volume(ctx):
    samples = [ctx.split("train")[i] for i in range(6)]
    told = Told(ctx, {"deposits": "own", "fovea": "own"}).of(samples)
    want = ctx.conditioner().of(samples)
    assert torch.equal(told.values["deposits"], want.values["deposits"]) and len(want.values["deposits"].unique()) == 2
    assert torch.equal(told.values["fovea"], want.values["fovea"]) and want.values["fovea"].any()
    assert told.present["fovea"].all()


def test_a_mask_s_file_is_told(ctx, tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[1, 3:9, 4:7] = 1
    np.save(tmp_path / "mask.npy", mask.transpose(1, 2, 0))  # as a cube: rows, columns, bands
    told = Told(ctx, {"fovea": str(tmp_path / "mask.npy")}).of([ctx.split("val")[0]])
    assert told.values["fovea"][0, 0].sum() == 18 and not told.present["deposits"].any()


def test_conditions_reach_the_maps(run_dir, tmp_path):
    found = []
    for value in ("0", "1"):
        out = tmp_path / value
        given = {"deposits": value, "fovea": "empty"}
        settings = {"conditions": given, "guidance": 2.0, "steps": 4, "limit": 1, "mask": "fovea"}
        results = find_anomalies(run_dir, "val", (8,), out=out, **settings)
        assert results["protocol"]["conditions"] == given and results["protocol"]["guidance"] == 2.0
        found.append(np.load(out / results["volumes"][0]["files"]["8"][0]))
    assert found[0].shape == SIZE and not np.array_equal(*found)


def test_only_masks_can_be_empty(ctx):
    with pytest.raises(UsageError, match="--condition deposits=empty: only a mask"):
        Told(ctx, {"deposits": "empty"})
    with pytest.raises(
        UsageError, match="not declared by this run; there are: deposits, fovea; did you mean 'deposits'"
    ):
        Told(ctx, {"deposit": "1"})


# Masks and scales


def test_several_masks_need_a_choice(ctx):
    volumes = open_input(ctx, ctx.recipe, "val")
    assert volumes.truth == "" and "say by --mask which" in volumes.said[0] and "fovea" in volumes.said[0]
    assert open_input(ctx, ctx.recipe, "val", mask="fovea").truth == "fovea"
    with pytest.raises(UsageError, match="--mask fovia: no such mask; .* did you mean 'fovea'"):
        open_input(ctx, ctx.recipe, "val", mask="fovia")


def test_masks_of_a_split_from_a_folder(ctx, tmp_path):
    ids = [s.id for s in ctx.split("val")]
    mask = np.zeros(SIZE, np.uint8)
    mask[2, 5:9, 1:4] = 7
    np.save(tmp_path / f"{ids[1]}.npy", mask)
    for masks in (tmp_path, tmp_path / "{id}.npy"):
        volumes = open_input(ctx, ctx.recipe, "val", str(masks), limit=2)
        assert volumes.truth == "anomaly" and len(volumes.samples) == 2
        assert [int(volumes.mask(volumes.samples[i]).sum()) for i in range(2)] == [0, 12]
    with pytest.raises(UsageError, match="one file for 3 volumes"):
        open_input(ctx, ctx.recipe, "val", str(tmp_path / f"{ids[1]}.npy"))


class Fixed:
    """A context whose run has one scale, or not."""

    def __init__(self, scale, first):
        self.spec = VolumeSpec((1, 1, 2), scale=scale)
        self.first = first

    def split(self, name):
        return [Sample(np.zeros((1, 1, 1, 2), np.float32), "t", "t", "t", scale=self.first)]


def scale(lo, hi):
    return Scale(np.full((1, 1, 1, 1), lo, np.float32), np.full((1, 1, 1, 1), hi, np.float32))


def test_volumes_come_onto_the_run_s_scale_where_it_has_one():
    sample = Sample(np.array([[[[-0.5, 1.0]]]], np.float32), "a", "a", "a", scale=scale(0, 200))  # 50 and 200
    moved = _OnScale([sample], Fixed(scale(0, 100), scale(0, 100)))[0]
    assert moved.x.ravel().tolist() == [0.0, 1.0]  # 50 is the middle of 0..100, 200 is clipped
    each = _OnScale([sample], Fixed(scale(0, 100), scale(3, 70)))[0]  # the run's volumes have scales of their own
    assert each is sample
