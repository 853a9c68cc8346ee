"""Blocks of volumes: against numpy's padding, affines that keep points, where a block is placed."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.datasets.crop_pad import around, centred, cut, describe, inside, middle, moved, patient, place

VOLUME = np.arange(4 * 5 * 7, dtype=np.float32).reshape(4, 5, 7)


@pytest.mark.parametrize("corner", [(0, 0, 0), (-3, 2, -1), (2, -4, 6), (3, 4, 6), (-9, 0, 0), (4, 0, 0), (1, 9, 2)])
def test_a_block_is_the_padded_volume_there(corner):
    size, far = (3, 6, 2), 12
    padded = np.pad(VOLUME, far, constant_values=np.nan)
    expected = padded[tuple(slice(c + far, c + far + m) for c, m in zip(corner, size))]
    out = cut(VOLUME, corner, size)
    assert out.shape == size and out.dtype == np.float32 and np.array_equal(out, expected, equal_nan=True)
    mask = cut(VOLUME > 50, corner, size)
    assert mask.dtype == bool and np.array_equal(mask, np.nan_to_num(expected, nan=0) > 50)


def test_a_block_is_a_copy():
    out = cut(VOLUME, (0, 0, 0), VOLUME.shape)
    out[:] = 0
    assert VOLUME[0, 0, 1] == 1


def test_the_centre_is_the_centre_for_even_and_odd_sizes():
    assert centred((10, 7, 4), (4, 3, 6)) == (3, 2, -1)
    assert around(np.array([4.5, 3.0, 1.5]), (4, 3, 6)) == (3, 2, -1)
    assert around(np.array([0.0, 2.2, 2.2]), (1, 1, 2)) == (0, 2, 2)


def test_a_block_that_fits_stays_inside():
    assert inside((-2, 4, 3), (0, 0, 0), (6, 6, 6), (3, 3, 3)) == (0, 3, 3)
    assert inside((-2, 4, 3), (1, 0, 0), (4, 6, 2), (4, 6, 3)) == (0, 0, -1)


def test_the_affine_follows_the_block():
    affine = np.array([[0, 0.1, 0.9, -20], [0.1, 0.8, 0, 30], [2.5, 0, 0.1, -400], [0, 0, 0, 1.0]])
    corner = (-2, 3, 1)
    new = moved(affine, corner)
    point = np.array([1.0, 0.0, 2.0])
    assert np.allclose(new @ [*point, 1], affine @ [*(point + corner), 1])
    assert affine[0, 3] == -20


def test_a_block_finds_the_patient_or_a_mask():
    ct = np.full((9, 20, 24), -1000, np.float32)
    ct[:, 10:18, 2:10] = 40
    assert place(ct, {}, (9, 8, 8), "foreground", "HU", "v") == ((0, 10, 2), "foreground")
    assert place(ct, {}, (9, 20, 24), "centre", "HU", "v")[0] == (0, 0, 0)
    mask = np.zeros(ct.shape, bool)
    mask[7:9, 3:6, 22] = True
    assert place(ct, {"gtv": mask}, (3, 5, 5), "gtv", "HU", "v")[0] == (6, 2, 19)  # kept inside
    corner, how = place(ct, {"gtv": ~mask & mask}, (3, 4, 4), "gtv", "HU", "v")
    assert corner == (3, 8, 10) and how == "centre: gtv is empty"
    with pytest.raises(DataError, match=r"v: dataset.at = 'liver' is no mask of dataset.masks \(gtv\)"):
        place(ct, {"gtv": mask}, (3, 4, 4), "liver", "HU", "v")


def test_the_patient_is_told_from_air_by_density_or_by_otsu():
    ct = np.array([[[-1000, -700, -100, 40, np.nan]]], np.float32)
    assert patient(ct, "HU").ravel().tolist() == [False, False, True, True, False]
    mr = np.array([[[2, 1, 3, 300, 280]]], np.float32)
    assert patient(mr, "").ravel().tolist() == [False, False, False, True, True]
    assert not patient(np.full((1, 1, 2), np.nan, np.float32), "HU").any()
    assert middle(np.zeros((2, 2, 2), bool)) is None


def test_the_history_says_whether_it_was_padded():
    assert describe((4, 5, 7), (0, 1, 2), (4, 3, 5), "centre") == "crop 4 x 5 x 7 -> 4 x 3 x 5 from 0, 1, 2 (centre)"
    assert describe((4, 5, 7), (-1, 0, 0), (6, 5, 7), "centre").startswith("crop and pad")
