"""Label maps of NIfTI as masks, on the grid of an image and off it."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.nifti.images import read_images
from gen_radiology.nifti.label_masks import read_label_masks
from gen_radiology.volumes.image import Image

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())
OBLIQUE = np.array([[-0.9, 0.2, 0.5, 11.0], [0.3, 1.6, -0.4, -7.0], [0.1, 0.5, 2.8, 5.0], [0, 0, 0, 1.0]])


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def write(path, array, affine=OBLIQUE, code=1):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine if code == 2 else None, code if code == 2 else 0)
    nib.save(image, path)
    return path


def labels_on(tmp_path, labels, affine=OBLIQUE, name="seg.nii.gz"):
    """A label map (x, y, z), and an image on the same grid."""
    path = write(tmp_path / name, labels, affine)
    grid = read_images(write(tmp_path / "grid.nii", np.zeros((5, 7, 3), np.float32)))[0]
    return path, grid


def test_each_label_becomes_a_mask_with_its_name(tmp_path):
    labels = np.random.default_rng(2).integers(0, 4, (5, 7, 3)).astype(np.uint8)
    path, image = labels_on(tmp_path, labels)
    found = read_label_masks(path, image)
    assert list(found.masks) == ["label-1", "label-2", "label-3"] and found.notes == []
    assert all(np.array_equal(found.masks[f"label-{v}"], labels.T == v) for v in (1, 2, 3))
    found = read_label_masks(path, image, {2: "liver", 9: "gtv"})
    assert np.array_equal(found.masks["liver"], labels.T == 2) and not found.masks["gtv"].any()
    assert found.notes == ["seg.nii.gz: labels without a name left out: 1, 3"]


@pytest.mark.parametrize("modality", ["CT", "MR_T1"])
def test_the_published_tumour_has_its_voxels(modality):
    folder, truth = DATA / "sts_002" / modality / "nifti", TRUTH["sts_002"][modality]
    (image,) = read_images(folder / "image/image.nii.gz")
    (mask,) = read_label_masks(folder / "mask/mask.nii.gz", image).masks.values()
    assert mask.sum() == truth["nifti"]["mask_voxels"]
    (roi,) = truth["rtstruct"]["rois"].values()
    assert sha(mask) == roi["sha_f32_mask"]
    assert image.array[mask].mean(dtype=np.float64) == pytest.approx(roi["value_mean_inside"], abs=1e-3)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_map_stored_with_other_axes_is_brought_to_the_images(tmp_path, order, flips):
    labels = np.random.default_rng(2).integers(0, 3, (5, 7, 3)).astype(np.uint8)
    there = np.eye(4)  # stored index -> index of `labels`
    shape = np.array(labels.shape)
    for stored, axis in enumerate(order):
        there[:3, stored] = 0
        there[axis, stored] = -1 if axis in flips else 1
    there[:3, 3] = [n - 1 if a in flips else 0 for a, n in enumerate(shape)]
    moved = np.flip(labels, flips).transpose(order)
    path, image = labels_on(tmp_path, moved, OBLIQUE @ there)
    found = read_label_masks(path, image)
    assert np.array_equal(found.masks["label-2"], labels.T == 2) and found.notes == []


def test_a_map_of_a_part_is_put_in_its_place_and_what_sticks_out_is_told(tmp_path):
    shift = np.eye(4)
    shift[:3, 3] = [3, -2, 1]
    labels = np.ones((4, 5, 2), np.uint8)
    path, image = labels_on(tmp_path, labels, OBLIQUE @ shift)
    found = read_label_masks(path, image, {1: "part"})
    expected = np.zeros((3, 7, 5), bool)
    expected[1:3, :3, 3:5] = True
    assert np.array_equal(found.masks["part"], expected)
    assert found.notes == ["seg.nii.gz: 28 labelled voxels lie outside the image: left out"]


def test_a_map_on_another_grid_is_refused_or_resampled_when_asked(tmp_path):
    finer = OBLIQUE @ np.diag([0.5, 0.5, 0.5, 1.0])
    labels = np.repeat(np.repeat(np.repeat(np.eye(5, 7)[..., None] * [1, 0, 2], 2, 0), 2, 1), 2, 2).astype(np.uint8)
    finer[:3, 3] -= OBLIQUE[:3, :3] @ np.full(3, 0.25)  # halves of the same voxels
    path, image = labels_on(tmp_path, labels, finer)
    with pytest.raises(DataError, match="seg.nii.gz: lies on another grid than grid .6x14x10 of"):
        read_label_masks(path, image)
    found = read_label_masks(path, image, resample=True)
    assert np.array_equal(found.masks["label-2"][2], np.eye(7, 5, dtype=bool)) and not found.masks["label-2"][:2].any()
    assert found.notes == ["seg.nii.gz: on another grid: resampled to the nearest voxel"]


def test_probabilities_are_cut_at_a_half_and_images_are_no_label_maps(tmp_path):
    soft = np.linspace(0, 1, 105, dtype=np.float32).reshape(5, 7, 3)
    path, image = labels_on(tmp_path, soft)
    found = read_label_masks(path, image)
    assert np.array_equal(found.masks["seg"], soft.T >= 0.5) and "at least 0.5" in found.notes[0]
    for values, message in (
        (soft * 7, "are no labels"),
        (soft.astype(int) - 3, "values down to -3"),
        (np.arange(420).reshape(5, 7, 12), "419 different values"),
        (np.zeros((5, 7, 3, 2)), "2 time points"),
    ):
        path = write(tmp_path / "wrong.nii", values.astype(np.float32))
        with pytest.raises(DataError, match=f"wrong.nii: .*{message}"):
            read_label_masks(path, image)


def test_an_empty_map_gives_the_named_masks_empty(tmp_path):
    path, image = labels_on(tmp_path, np.zeros((5, 7, 3), np.uint8))
    assert not read_label_masks(path, image, {1: "gtv"}).masks["gtv"].any()
    assert read_label_masks(path, image).masks == {}
    assert isinstance(image, Image)
