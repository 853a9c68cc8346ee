"""Arrays on an image's grid, against SimpleITK and around the tolerance."""

import numpy as np
import pytest

from gen_radiology.volumes.image import Image
from gen_radiology.volumes.placing import find_window, resample_nearest

SHAPE = (5, 7, 11)  # 77 voxels a frame: in bits, frames begin within a byte
SPACING = np.array([2.5, 1.3, 0.7])


def affine_of(turned):
    q = np.eye(3)[::-1]  # z, y, x as columns in LPS
    if turned:
        q, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
        q[:, 0] = np.cross(q[:, 2], q[:, 1])  # z along row x column
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = q * SPACING, [12.0, -33.0, 81.0]
    return affine


def image_of(affine=None, **meta):
    return Image(np.zeros(SHAPE, np.float32), affine_of(False) if affine is None else affine, "scan", "P", meta=meta)


def test_the_nearest_voxel_is_the_one_simpleitk_finds():
    sitk = pytest.importorskip("SimpleITK")
    labels = np.random.default_rng(3).integers(0, 9, (4, 6, 9)).astype(np.int16)
    given, wanted = affine_of(True), affine_of(False)
    wanted[:3, 3] = given[:3, :3] @ [1.1, 2.2, 3.3] + given[:3, 3]
    moving = sitk.GetImageFromArray(labels)
    fixed = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
    for made, affine in ((moving, given), (fixed, wanted)):
        made.SetSpacing(SPACING[::-1].tolist())
        made.SetDirection((affine[:3, :3] / SPACING)[:, ::-1].ravel().tolist())
        made.SetOrigin(affine[:3, 3].tolist())
    truth = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor))
    found = resample_nearest(labels, given, image_of(wanted))
    assert (truth > 0).sum() > 20 and np.array_equal(found, truth)


def test_a_grid_that_drifts_by_more_than_a_tenth_of_a_voxel_is_another_grid():
    image, wide = image_of(), affine_of(False)
    assert find_window(SHAPE, wide, image).low.tolist() == [0, 0, 0]
    wide[:3, :3] *= 1.005  # 0.05 voxels at the far end of x
    assert find_window(SHAPE, wide, image) is not None
    wide[:3, :3] *= 1.01
    assert find_window(SHAPE, wide, image) is None
    assert find_window((1, 7, 5), wide, image) is not None  # a smaller one does not drift as far
