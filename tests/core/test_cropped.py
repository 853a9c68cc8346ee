"""Crops of a split: places, sizes, masks, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from gen_core.cropped import CroppedSplit
from gen_core.dataset import Split
from gen_core.errors import RecipeError
from gen_core.volume import Sample

SIZE = (4, 9, 12)


class Numbered(Split):
    """Volumes whose voxels know where they lie; view k is mirrored when k is odd."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        x = np.arange(np.prod(SIZE), dtype=np.float32).reshape(1, *SIZE) / 1000 + i
        masks = {"band": x > 0.1, "flat": x[0, :1] * 1000 % 2 == 0}
        return Sample(
            x, id=str(i), subject=str(i), hash=str(i), masks={"band": masks["band"][0], "flat": masks["flat"]}
        )

    def view(self, i, draw):
        sample = self[i]
        if draw % 2:
            sample.x = sample.x[..., ::-1]
            sample.masks = {k: m[..., ::-1] for k, m in sample.masks.items()}
        return sample


def test_a_view_is_a_function_of_seed_index_and_draw():
    split = CroppedSplit(Numbered(), (2, 4, 4), 5, "codec")
    again = CroppedSplit(Numbered(), (2, 4, 4), 5, "codec")
    assert np.array_equal(split.view(1, 3).x, again.view(1, 3).x)
    places = {split.view(1, k).x.flat[0] for k in range(0, 40, 2)}
    assert len(places) > 10


def test_every_place_is_possible_and_none_outside():
    split = CroppedSplit(Numbered(), (3, 0, 11), 0, "codec")
    corners = {tuple(split.view(0, k).x[0, 0, 0, :1]) for k in range(0, 80, 2)}
    want = {(np.float32((d * 9 * 12 + w) / 1000),) for d in range(2) for w in range(2)}
    assert corners == want


def test_masks_move_along_and_flat_ones_keep_their_depth():
    sample = CroppedSplit(Numbered(), (2, 4, 8), 1, "codec").view(2, 1)
    assert sample.x.shape == (1, 2, 4, 8)
    assert sample.masks["band"].shape == (2, 4, 8)
    assert np.array_equal(sample.masks["band"], sample.x[0] > np.float32(0.1))
    assert sample.masks["flat"].shape == (1, 4, 8)
    assert sample.x.base is None


def test_validation_looks_at_the_middle():
    x = CroppedSplit(Numbered(), (2, 3, 4), 1, "codec")[0].x
    assert np.array_equal(x, Numbered()[0].x[:, 1:3, 3:6, 4:8])


def test_crops_must_fit_the_volume_and_the_stride():
    with pytest.raises(RecipeError, match=r"\[codec.fit\] crop = \[2, 10, 4\] is larger than the volumes"):
        CroppedSplit(Numbered(), (2, 10, 4), 1, "codec").view(0, 0)
    with pytest.raises(RecipeError, match=r"\[codec.fit\] crop = \[0, 6, 4\]: expected multiples of \[2, 4, 4\]"):
        CroppedSplit(Numbered(), (0, 6, 4), 1, "codec", (2, 4, 4))
