"""NIfTI as cubes: order of axes, scaled values, one pass through a .gz, and files that lie."""

import gzip
import json
import struct

import nibabel
import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.containers import nifti as read_nifti_cube
from gen_hyperspectral.containers.nifti import build
from gen_hyperspectral.cubes import inflate
from gen_hyperspectral.reader_options import NiftiCubeReader

READER = build(NiftiCubeReader())


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 6000, (13, 17, 5)).astype(np.uint16)


def write(path, array, slope=None):
    image = nibabel.Nifti1Image(array, np.eye(4))
    if slope:
        image.header.set_slope_inter(slope, -3.0)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_i_is_x_and_j_is_y_unless_axes_or_wavelengths_say_otherwise(suffix, cube, tmp_path):
    path = write(tmp_path / f"a{suffix}", cube.transpose(1, 0, 2))
    check_reader(READER, path, cube)
    assert np.array_equal(build(NiftiCubeReader("yxb")).open(path).array[:], cube.transpose(1, 0, 2))
    write(path, cube.transpose(2, 0, 1))
    (tmp_path / "a.json").write_text(json.dumps({"wavelength_nm": [450, 500, 550, 600, 900]}))
    assert np.array_equal(np.asarray(READER.open(path).array), cube)
    write(path, cube.transpose(1, 0, 2)[:, :, None])  # (x, y, 1, band)
    assert np.array_equal(np.asarray(READER.open(path).array), cube)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scaled_values_equal_nibabel(suffix, cube, tmp_path):
    path = write(tmp_path / f"a{suffix}", cube.transpose(1, 0, 2) * 0.25 - 3.0, slope=0.25)
    expected = nibabel.load(path).get_fdata().transpose(1, 0, 2).astype(np.float32)
    raw = READER.open(path)
    assert raw.array.dtype == np.float32 and np.array_equal(np.asarray(raw.array), expected)


def test_a_gz_is_unpacked_once_and_only_wanted_bands_are_kept(cube, tmp_path, monkeypatch):
    monkeypatch.setattr(read_nifti_cube, "SLAB_BYTES", 500)  # a band a slab
    path = write(tmp_path / "a.nii.gz", cube.transpose(1, 0, 2))
    array = READER.open(path).array
    unpacked = []
    real = inflate.GzipStream._some

    def counting(self, most):
        part = real(self, most)
        unpacked.append(len(part))
        return part

    monkeypatch.setattr(inflate.GzipStream, "_some", counting)
    kept = array.select(np.array([1, 4]))
    assert kept.shape == (13, 17, 2) and kept.base.nbytes == 2 * 13 * 17 * 2
    blocks = [np.array(kept[row : row + 3]) for row in range(0, 13, 3)]
    assert np.array_equal(np.concatenate(blocks), cube[:, :, [1, 4]])
    assert sum(unpacked) == 352 + cube.nbytes


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "place, form, value, expected",
    [
        (40, "<8h", (3, 30000, 30000, 3000, 1, 1, 1, 1), r"field 'dim' promises 5400000000352 bytes, the file holds"),
        (40, "<h", (9,), r"field 'dim\[0\]' is 9"),
        (40, "<8h", (3, 17, -13, 5, 1, 1, 1, 1), r"shape \[17, -13, 5\]: an empty axis"),
        (70, "<h", (32,), "field 'datatype' is 32"),
        (108, "<f", (float("nan"),), "field 'vox_offset'"),
        (344, "<4s", (b"ni1\0",), "field 'magic'"),
        (0, "<i", (7,), "not a NIfTI file"),
    ],
)
def test_headers_that_lie_are_refused_naming_the_field(suffix, place, form, value, expected, cube, tmp_path):
    path = write(tmp_path / "a.nii", cube.transpose(1, 0, 2))
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, *value)
    path = tmp_path / f"b{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".nii.gz" else data)
    with pytest.raises(DataError, match=expected) as error:
        READER.open(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_damage_inside_a_gz_is_found_by_its_checksum(cube, tmp_path):
    path = write(tmp_path / "a.nii.gz", cube.transpose(1, 0, 2))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be decompressed"):
        np.asarray(READER.open(path).array)
