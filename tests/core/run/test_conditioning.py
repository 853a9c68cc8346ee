"""Declared conditions become tensors on the latents' grid; what is unknown stays unknown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_core.codec import LatentSpec
from gen_core.errors import RecipeError
from gen_core.options import ConditionOptions
from gen_core.run.conditioning import Conditioner, noise_seeds, scalar_ranges
from gen_core.volume import Sample, VolumeSpec

SPEC = VolumeSpec((4, 6, 10), masks=("lesion",), classes={"nodule": ("none", "solid", "ground-glass")})
LATENT = LatentSpec(channels=3, stride=(2, 3, 5))


def sample(i: int = 0, masks: dict | None = None, **condition: object) -> Sample:
    x = np.random.default_rng(i).uniform(-1, 1, SPEC.shape).astype(np.float32)
    return Sample(x=x, id=f"s{i}", subject=f"p{i}", hash=f"h{i}", masks=masks or {}, condition=condition)


def conditioner(**tables: ConditionOptions) -> Conditioner:
    return Conditioner(tables, SPEC, LATENT, {"age": (20.0, 80.0)})


def test_classes_are_indices_and_scalars_go_from_minus_one_to_one():
    told = conditioner(nodule=ConditionOptions("class"), age=ConditionOptions("scalar")).of(
        [sample(0, nodule=2, age=20.0), sample(1, nodule=-1, age=float("nan")), sample(2, nodule=1, age=65.0)]
    )
    assert told.values["nodule"].tolist() == [2, 0, 1] and told.present["nodule"].tolist() == [True, False, True]
    assert told.values["age"].tolist() == [-1.0, 0.0, 0.5] and told.present["age"].tolist() == [True, False, True]


def test_a_scalar_with_given_ends_ignores_the_data():
    told = conditioner(age=ConditionOptions("scalar", low=0.0, high=100.0)).of([sample(age=50.0)])
    assert told.values["age"].item() == 0.0


def test_a_mask_is_the_share_of_each_latent_cell():
    mask = np.zeros(SPEC.size, bool)
    mask[:2, :3, 5:] = True  # exactly one cell of 2 x 3 x 5 voxels
    mask[2, 3, 0] = True  # one voxel of thirty
    told = conditioner(lesion=ConditionOptions("mask")).of([sample(masks={"lesion": mask}), sample()])
    got = told.values["lesion"]
    assert got.shape == (2, 1, 2, 2, 2)
    expected = torch.zeros(2, 2, 2)
    expected[0, 0, 1], expected[1, 1, 0] = 1.0, 1 / 30
    torch.testing.assert_close(got[0, 0], expected)
    assert told.present["lesion"].tolist() == [True, False] and not got[1].any()


def test_a_mask_of_depth_one_is_the_same_in_every_slice():
    flat = np.zeros((1, 6, 10), bool)
    flat[0, :3, :5] = True
    told = conditioner(lesion=ConditionOptions("mask")).of([sample(masks={"lesion": flat})])
    assert told.values["lesion"][0, 0, :, 0, 0].tolist() == [1.0, 1.0]


def test_detail_keeps_the_parts_of_a_cell_apart_as_channels():
    latent = LatentSpec(channels=1, stride=(2, 2, 5))
    mask = np.random.default_rng(3).random(SPEC.size) < 0.3
    tables = {"lesion": ConditionOptions("mask", detail=2)}
    with pytest.raises(RecipeError, match="detail = 2 does not divide"):
        Conditioner(tables, SPEC, latent)
    told = Conditioner(tables, SPEC, LatentSpec(1, (2, 2, 2))).of([sample(masks={"lesion": mask})])
    got = told.values["lesion"][0]
    assert got.shape == (8, 2, 3, 5)
    for p in np.ndindex(2, 2, 2):  # every voxel is found again
        np.testing.assert_array_equal(got[np.ravel_multi_index(p, (2, 2, 2))], mask[p[0] :: 2, p[1] :: 2, p[2] :: 2])


def test_sizes_that_the_stride_does_not_divide_are_padded_at_the_far_ends():
    latent = LatentSpec(channels=1, stride=(3, 4, 4))
    mask = np.ones(SPEC.size, bool)
    got = Conditioner({"lesion": ConditionOptions("mask")}, SPEC, latent).of([sample(masks={"lesion": mask})])
    share = torch.einsum(
        "d,h,w->dhw", torch.tensor([1.0, 1 / 3]), torch.tensor([1.0, 0.5]), torch.tensor([1.0, 1.0, 0.5])
    )
    torch.testing.assert_close(got.values["lesion"][0, 0], share)


def test_a_volume_is_shrunk_by_area_and_noise_is_a_function_of_the_seed():
    tables = {"low": ConditionOptions("volume", size=(2, 2, 2), noise=0.1)}
    given = Conditioner(tables, SPEC, LATENT)
    one = sample(5)
    plain = given.of([one]).values["low"]
    mean = one.x.reshape(1, 2, 2, 2, 3, 2, 5).mean((2, 4, 6))
    np.testing.assert_allclose(plain[0], mean, rtol=1e-5, atol=1e-7)
    first, again = (given.of([one], noise_seeds(1, "train", 0, [7])).values["low"] for _ in range(2))
    other = given.of([one], noise_seeds(1, "train", 1, [7])).values["low"]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 0.01 < (first - plain).std() < 0.3


def test_ranges_are_those_of_the_known_values():
    tables = {"age": ConditionOptions("scalar"), "dose": ConditionOptions("scalar", low=0.0, high=1.0)}
    samples = [sample(age=30.0, dose=5.0), sample(age=float("nan")), sample(age=71.5), sample()]
    assert scalar_ranges(tables, samples) == {"age": (30.0, 71.5)}
    with pytest.raises(RecipeError, match="no training volume has a value of 'age'"):
        scalar_ranges(tables, [sample()])


@pytest.mark.parametrize(
    "name, table, message",
    [
        ("nodul", ConditionOptions("class"), "no classes 'nodul'.*did you mean 'nodule'"),
        ("tumour", ConditionOptions("mask"), "no mask 'tumour'; it has lesion"),
    ],
)
def test_what_the_data_set_does_not_have_is_refused(name: str, table: ConditionOptions, message: str):
    with pytest.raises(RecipeError, match=message):
        conditioner(**{name: table})
