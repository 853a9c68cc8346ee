"""Written NIfTI is read back by nibabel and SimpleITK: values, geometry, masks, marks."""

import gzip
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from gen_core.errors import DataError
from gen_core.testing import check_writer
from gen_core.volume import VolumeSpec
from gen_radiology.writer_options import NiftiWriter
from gen_radiology.writers.nifti import build, quantization, ras_affine, write_volume
from gen_radiology.writers.synthetic_marks import centred_affine

SPEC = VolumeSpec(size=(4, 6, 5), depth="slices", units="HU", spacing_mm=(2.5, 0.7, 0.9))
INFO = {"synthetic": True, "id": "sample-000003", "seed": 7, "prior": "ab12"}


@pytest.fixture
def volume():
    return np.random.default_rng(0).uniform(-1000, 1000, SPEC.shape).astype(np.float32)


@pytest.fixture
def masks():
    rng = np.random.default_rng(1)
    return {"lung": rng.random(SPEC.size) > 0.5, "GTV 1": rng.random((1, 6, 5)) > 0.5}


def test_the_writer_keeps_its_contract(tmp_path):
    check_writer(build(NiftiWriter()), tmp_path, SPEC, lambda p: nibabel.load(p).get_fdata().T[None].astype("f4"))


def test_values_and_geometry_by_nibabel(volume, tmp_path):
    (path, _) = build(NiftiWriter()).write(tmp_path / "s.1", volume, SPEC, INFO)
    assert path.name == "s.1.nii.gz"
    image = nibabel.load(path)
    assert np.array_equal(np.asarray(image.dataobj).T, volume[0])
    assert image.header["qform_code"] == image.header["sform_code"] == 2
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    assert np.allclose(image.header.get_zooms(), (0.9, 0.7, 2.5), atol=1e-6)
    # voxel (x 4, y 5, z 3) is the corner opposite to the first: half the extent from the middle, in RAS
    far = nibabel.affines.apply_affine(image.affine, (4, 5, 3))
    assert np.allclose(far, (-0.9 * 2, -0.7 * 2.5, 2.5 * 1.5), atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert "SYNTHETIC" in str(image.header["descrip"]) and "sample-000003" in str(image.header["descrip"])


def test_values_and_geometry_by_simpleitk(volume, tmp_path):
    (path, _) = build(NiftiWriter()).write(tmp_path / "s", volume, SPEC, INFO)
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), volume[0])
    assert np.allclose(image.GetSpacing(), (0.9, 0.7, 2.5), atol=1e-5)
    assert np.allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-5)
    assert np.allclose(image.GetOrigin(), centred_affine(SPEC)[:3, 3], atol=1e-5)


def test_an_oblique_affine_goes_through_both_headers(tmp_path):
    turned, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned * [2.5, 0.7, 0.9], (3.0, -4.0, 5.5)
    array = np.random.default_rng(3).random((4, 6, 5), np.float32)
    write_volume(tmp_path / "o.nii.gz", array, affine, "oblique")
    image = nibabel.load(tmp_path / "o.nii.gz")
    assert np.allclose(image.get_sform(), ras_affine(affine), atol=1e-5)
    assert np.allclose(image.get_qform(), ras_affine(affine), atol=1e-5)
    # the middle voxel by hand, LPS -> RAS
    lps = affine @ (1, 2, 3, 1)
    assert np.allclose((image.affine @ (3, 2, 1, 1))[:3], lps[:3] * (-1, -1, 1), atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 3e4, 1e6])
def test_int16_is_within_half_a_step(offset, volume, tmp_path):
    volume += np.float32(offset)
    (path, _) = build(NiftiWriter(dtype="int16")).write(tmp_path / "s", volume, SPEC, INFO)
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.int16
    slope = float(image.dataobj.slope)
    assert slope < 1.1 * max(2000 / 65534, (offset + 1000) * 2**-23)
    back = np.asarray(image.dataobj, np.float64).T
    assert np.abs(back - volume[0]).max() <= slope / 2 * (1 + 1e-6)


def test_whole_numbers_are_kept_exactly_in_int16(volume, tmp_path):
    volume = volume.round()
    (path, _) = build(NiftiWriter(dtype="int16")).write(tmp_path / "s", volume, SPEC, INFO)
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj).T, volume[0])
    assert quantization(np.full((2, 3, 4), 0.3, np.float32), path)[1] == np.float32(0.3)


def test_int16_refuses_what_it_cannot_say(volume, tmp_path):
    volume[0, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"s\.nii\.gz: holds values that are not finite"):
        build(NiftiWriter(dtype="int16")).write(tmp_path / "s", volume, SPEC, INFO)
    assert list(tmp_path.iterdir()) == []


def test_masks_lie_beside_on_the_same_grid(volume, masks, tmp_path):
    files = build(NiftiWriter()).write(tmp_path / "s", volume, SPEC, INFO, masks)
    assert [f.name for f in files] == ["s.nii.gz", "s-mask-lung.nii.gz", "s-mask-GTV_1.nii.gz", "s.json"]
    for path, mask in zip(files[1:3], masks.values()):
        image = nibabel.load(path)
        assert image.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(image.dataobj).T, np.broadcast_to(mask, SPEC.size))
        assert np.array_equal(image.affine, nibabel.load(files[0]).affine)
    side = json.loads(files[-1].read_text())
    assert side["masks"]["lung"] == {"file": "s-mask-lung.nii.gz", "label": 1, "voxels": int(masks["lung"].sum())}


def test_labels_where_none_overlap_else_a_file_a_mask(volume, masks, tmp_path):
    writer = build(NiftiWriter(masks="labels"))
    apart = {"a": masks["lung"], "none": np.zeros((1, 6, 5), bool), "b": ~masks["lung"]}
    files = writer.write(tmp_path / "s", volume, SPEC, INFO, apart)
    labels = np.asarray(nibabel.load(files[1]).dataobj).T
    assert files[1].name == "s-labels.nii.gz" and np.array_equal(labels, np.where(masks["lung"], 1, 3))
    side = json.loads(files[-1].read_text())["masks"]
    assert [side[n]["label"] for n in apart] == [1, 2, 3] and side["none"]["voxels"] == 0
    overlap = {"a": np.ones(SPEC.size, bool), "b": masks["lung"]}
    assert len(writer.write(tmp_path / "t", volume, SPEC, INFO, overlap)) == 4


def test_the_same_volume_gives_the_same_bytes_without_name_or_time(volume, tmp_path):
    writer = build(NiftiWriter())
    first = [f.read_bytes() for f in writer.write(tmp_path / "s", volume, SPEC, INFO)]
    assert [f.read_bytes() for f in writer.write(tmp_path / "s", volume, SPEC, INFO)] == first
    assert first[0][3] == 0 and first[0][4:8] == bytes(4)  # gzip: no flags, no time (RFC 1952)
    assert gzip.decompress(first[0])[344:348] == b"n+1\0"


def test_several_channels_and_bands_are_told_in_the_sidecar(tmp_path):
    spec = VolumeSpec(size=(2, 3, 4), channels=("T1", "t1"), wavelength_nm=(500.0, 600.5))
    volume = np.random.default_rng(4).random(spec.shape, np.float32)
    files = build(NiftiWriter()).write(tmp_path / "s", volume, spec, INFO)
    assert [f.name for f in files] == ["s-T1.nii.gz", "s-t1-2.nii.gz", "s.json"]
    assert np.array_equal(np.asarray(nibabel.load(files[1]).dataobj).T, volume[1])
    side = json.loads(files[-1].read_text())
    assert side["wavelength_nm"] == [500.0, 600.5] and side["images"] == ["s-T1.nii.gz", "s-t1-2.nii.gz"]
    assert side["synthetic"] and "prior ab12" in side["description"] and side["info"] == INFO


def test_a_single_slice_is_a_volume(tmp_path):
    spec = VolumeSpec(size=(1, 6, 5), depth="none", spacing_mm=(1.0, 0.7, 0.9))
    volume = np.random.default_rng(5).random(spec.shape, np.float32)
    (path, _) = build(NiftiWriter()).write(tmp_path / "s", volume, spec, INFO)
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj).T, volume[0])
    assert sitk.ReadImage(str(path)).GetSpacing() == pytest.approx((0.9, 0.7, 1.0), abs=1e-5)


@pytest.mark.parametrize("how", ["each", "labels"])
def test_our_own_reader_gives_back_volume_place_and_masks(how, volume, masks, tmp_path):
    from gen_radiology.nifti.images import read_images
    from gen_radiology.nifti.label_masks import read_label_masks

    apart = {"lung": masks["lung"], "rest": ~masks["lung"]}
    files = build(NiftiWriter(masks=how)).write(tmp_path / "s", volume, SPEC, INFO, apart)
    (image,) = read_images(files[0])
    assert np.array_equal(image.array, volume[0]) and np.allclose(image.affine, centred_affine(SPEC), atol=1e-5)
    side = json.loads(files[-1].read_text())["masks"]
    for name, mask in apart.items():
        found = read_label_masks(tmp_path / side[name]["file"], image, {side[name]["label"]: name})
        assert np.array_equal(found.masks[name], mask)
