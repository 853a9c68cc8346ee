"""Resampling: block means, integrals, linear interpolation of SimpleITK, affines, masks, orientation of nibabel."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.volumes.resample import (
    axis_weights,
    oriented,
    oriented_affine,
    resample,
    resample_mask,
    size_grid,
    spacing_grid,
    spacing_shape,
)

RNG = np.random.default_rng(0)


def affine_of(spacing, origin=(5.0, -7.0, 11.0)):
    """z, y, x index to LPS mm of an axial volume."""
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def test_whole_factors_are_exact_block_means():
    volume = RNG.normal(size=(4, 9, 10)).astype(np.float32)
    small = resample(volume, size_grid((4, 9, 10), (2, 3, 2)))
    blocks = volume.astype(np.float64).reshape(2, 2, 3, 3, 2, 5).mean(axis=(1, 3, 5))
    assert small.shape == (2, 3, 2) and np.allclose(small, blocks, atol=1e-6)


@pytest.mark.parametrize("n, m", [(7, 3), (11, 10), (13, 2)])
def test_shrinking_at_any_ratio_is_the_mean_of_the_linear_interpolant(n, m):
    line = RNG.normal(size=n)
    fine = np.interp((np.arange(n * m * 600) + 0.5) / (m * 600) - 0.5, np.arange(n), line)  # edges repeated
    expected = fine.reshape(m, -1).mean(axis=1)
    volume = line.astype(np.float32).reshape(1, n, 1)
    assert np.allclose(resample(volume, size_grid((1, n, 1), (1, m, 1)))[0, :, 0], expected, atol=1e-5)


def test_growing_is_linear_interpolation_as_in_simpleitk():
    sitk = pytest.importorskip("SimpleITK")
    volume = RNG.normal(size=(5, 7, 6)).astype(np.float32)
    spacing, target = np.array([3.0, 2.0, 2.5]), (1.3, 0.9, 1.1)
    affine = affine_of(spacing)
    grid = spacing_grid(volume.shape, spacing, target)
    ours = resample(volume, grid)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    image.SetOrigin(affine[:3, 3])
    new = affine @ grid.matrix
    wanted = sitk.Resample(
        image, [int(n) for n in grid.shape[::-1]], sitk.Transform(), sitk.sitkLinear, new[:3, 3],
        list(target[::-1]), image.GetDirection(), np.nan,
    )  # fmt: skip
    theirs = sitk.GetArrayFromImage(wanted)
    known = np.isfinite(theirs)
    assert known.mean() > 0.5 and np.allclose(ours[known], theirs[known], atol=1e-5)
    assert np.isfinite(ours).all()


def test_a_ramp_in_mm_stays_the_same_ramp_under_the_new_affine():
    shape, spacing = (24, 30, 36), np.array([2.0, 0.7, 0.9])
    affine = affine_of(spacing)
    z, y, x = np.indices(shape)
    at = np.stack([z, y, x, np.ones(shape)]).reshape(4, -1)
    ramp = (np.array([0.5, -1.25, 2.0]) @ (affine @ at)[:3]).reshape(shape).astype(np.float32)
    for grid in (spacing_grid(shape, spacing, (3.0, 0.5, 2.1)), size_grid(shape, (9, 41, 17))):
        new = affine @ grid.matrix
        index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)]).reshape(4, -1)
        expected = (np.array([0.5, -1.25, 2.0]) @ (new @ index)[:3]).reshape(grid.shape)
        inner = (slice(2, -2),) * 3
        assert np.allclose(resample(ramp, grid)[inner], expected[inner], atol=2e-3)
        assert np.allclose(new[:3, :3] @ (np.array(grid.shape) / 2 - 0.5) + new[:3, 3],
                           affine[:3, :3] @ (np.array(shape) / 2 - 0.5) + affine[:3, 3])  # fmt: skip
    assert np.allclose(np.linalg.norm((affine @ spacing_grid(shape, spacing, (3.0, 0.5, 2.1)).matrix)[:3, :3], axis=0),
                       (3.0, 0.5, 2.1))  # fmt: skip


def test_the_same_grid_gives_the_same_values():
    volume = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    grid = spacing_grid(volume.shape, np.array([2.0, 1.0, 0.5]), (2.0, 1.0, 0.5))
    assert grid.same and np.array_equal(resample(volume, grid), volume) and np.array_equal(grid.matrix, np.eye(4))


def test_voxels_without_data_do_not_enter_a_mean():
    volume = np.ones((2, 4, 6), np.float32)
    volume[:, :1] = np.nan
    volume[:, :, :4] = np.where(np.isnan(volume[:, :, :4]), np.nan, 3.0)
    volume[0, 2:, :2] = np.nan
    volume[1, 2:, 0] = np.nan
    small = resample(volume, size_grid(volume.shape, (1, 2, 3)))
    assert np.isnan(small[0, 1, 0]) and np.allclose(small[0, 0], [3, 3, 1])  # 1 of 8 voxels of that block has data
    assert np.allclose(small[0, 1, 1:], [3, 1])


def test_a_mask_keeps_voxels_of_which_half_is_covered_or_the_centre():
    mask = np.zeros((3, 6, 9), bool)
    mask[:, :3, 1:6] = True
    by_volume = resample_mask(mask, size_grid(mask.shape, (1, 3, 3)), "volume")
    assert by_volume.tolist() == [[[True, True, False], [False, True, False], [False] * 3]]
    nearest = resample_mask(mask, size_grid(mask.shape, (1, 6, 3)), "nearest")
    assert np.array_equal(nearest, mask[1:2, :, 1::3])
    assert np.array_equal(resample_mask(mask, size_grid(mask.shape, mask.shape)), mask)
    grown = resample_mask(mask, size_grid(mask.shape, (6, 12, 18)), "nearest")
    assert np.array_equal(grown, mask.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_one_slice_and_one_voxel_can_be_resampled():
    volume = RNG.normal(size=(1, 5, 7)).astype(np.float32)
    assert np.allclose(resample(volume, size_grid(volume.shape, (4, 5, 7))), volume.repeat(4, 0))
    grid = spacing_grid((1, 5, 7), np.array([2.0, 1.0, 1.0]), (10.0, 1.0, 1.0))
    assert grid.shape == (1, 5, 7) and np.allclose(resample(volume, grid), volume, atol=1e-6)
    assert (
        resample(np.full((1, 1, 1), 7, np.float32), size_grid((1, 1, 1), (2, 3, 4))).tolist() == [[[7.0] * 4] * 3] * 2
    )


def test_weights_of_every_output_add_up_to_one():
    for n in (1, 2, 5, 12):
        for m in (1, 3, 12, 31):
            axis = axis_weights(n, m, n / m, 0.0)
            assert np.allclose(axis.weight.sum(1), 1, atol=1e-6) and axis.index.min() >= 0 and axis.index.max() < n


def test_an_absurd_spacing_is_refused_before_anything_is_allocated():
    with pytest.raises(DataError, match="dataset.spacing_mm"):
        spacing_shape((100, 512, 512), np.array([2.0, 1.0, 1.0]), (0.001, 0.001, 0.001))


def test_orientation_agrees_with_nibabel_for_every_axis_order():
    nib = pytest.importorskip("nibabel")
    volume = RNG.normal(size=(3, 5, 4)).astype(np.float32)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    for code in ("RAS", "LPS", "PIR", "SLA", "IRP", "ASL"):
        ornt = nib.orientations.axcodes2ornt(tuple(code))
        affine = np.linalg.inv(nib.orientations.inv_ornt_aff(ornt, volume.shape))
        affine = affine @ np.diag([1.5, 2.5, 3.5, 1.0])
        turn = np.array([[0.995, 0.0998, 0, 0], [-0.0998, 0.995, 0, 0], [0, 0, 1, 0], [3, 4, 5, 1]], float)
        affine = turn @ affine
        shape, new = oriented_affine(volume.shape, lps @ affine)
        image = nib.Nifti1Image(volume, affine)
        target = nib.orientations.axcodes2ornt(("S", "P", "L"))  # z to the head, y to the back, x to the left
        reference = image.as_reoriented(
            nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), target)
        )
        ours = oriented(volume, lps @ affine)
        assert ours.shape == shape and np.array_equal(ours, np.asarray(reference.dataobj))
        assert np.allclose(new, lps @ reference.affine, atol=1e-9)
