"""MATLAB v5 cubes: a real scene against numbers made by others, the choice of variable, damaged files."""

import hashlib
import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.containers.mat.reader import build
from gen_hyperspectral.reader_options import MatReader

DATA = Path(__file__).parents[4] / "data"
SALTON = DATA / "mat_salton" / "salton_sea_roi.mat"
TRUTH = json.loads((DATA / "truth.json").read_text())["mat_salton"]["salton_sea_roi.mat"]["variables"]
READER = build(MatReader())


@pytest.mark.parametrize("name", ["I", "rgb"])
def test_the_real_scene_has_the_published_numbers(name):
    array = READER.open(SALTON, variable=name).array
    assert list(array.shape) == TRUTH[name]["shape"]
    digest = hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()
    assert digest == TRUTH[name]["sha_f32"]


def test_wavelengths_and_bad_bands_of_the_real_scene():
    raw = READER.open(SALTON, variable="I")
    assert raw.wavelength_nm[[0, -1]].tolist() == pytest.approx([365.9, 2496.2], abs=0.05)
    assert any("guessed to be micrometres" in w for w in raw.warnings)
    assert raw.bad_bands.sum() == 20
    assert np.isnan(raw.array[:, :, raw.bad_bands]).all() and np.isfinite(raw.array[:, :, ~raw.bad_bands]).all()


def test_several_candidates_are_asked_about_and_a_guess_is_told():
    with pytest.raises(DataError, match=r"I 51x56x224, rgb 51x56x3.*dataset\.variable"):
        READER.open(SALTON)
    with pytest.raises(DataError, match="dataset.variable = 'wl' is no 3-D numeric array"):
        READER.open(SALTON, variable="wl")
    raw = READER.open(SALTON, guess=True)
    assert raw.meta["variable"] == "I" and any("rgb" in w for w in raw.warnings)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_only_cube_is_taken_with_bands_first_where_wavelengths_say_so(compressed, tmp_path):
    cube = np.random.default_rng(0).integers(0, 99, (5, 7, 3)).astype(np.int16)
    path = tmp_path / "a.mat"
    content = {
        "cube": cube.transpose(2, 0, 1),
        "wavelengths": [450.0, 550, 900],
        "name": "text",
        "bad_bands": [0, 1, 0],
    }
    scipy.io.savemat(path, content, do_compression=compressed)
    raw = READER.open(path)
    assert np.array_equal(raw.array, cube) and raw.bad_bands.tolist() == [False, True, False]
    check_reader(READER, path, cube)


def test_no_cube_and_complex_cubes_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.zeros((3, 4))})
    with pytest.raises(DataError, match="no 3-D array of real numbers"):
        READER.open(path)
    scipy.io.savemat(path, {"x": np.ones((3, 4, 2)) * 1j})
    with pytest.raises(DataError, match="no 3-D array of real numbers"):
        READER.open(path)


def write_73(path, **arrays):
    """As MATLAB writes version 7.3: a user block with its own header, axes in reverse, classes as attributes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, (value, kind) in arrays.items():
            data = file.create_dataset(name, data=np.asarray(value).T)
            data.attrs["MATLAB_class"] = np.bytes_(kind)
        group = file.create_group("#refs#")
        group["a"] = np.ones((2, 3, 4))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def test_version_7_3_is_read_with_its_axes_in_reverse_and_its_vectors(tmp_path):
    path, cube = tmp_path / "a.mat", np.random.default_rng(0).integers(0, 99, (5, 7, 3)).astype(np.int16)
    words = np.array([[[72, 105]]], np.uint16)
    write_73(
        path, cube=(cube, "int16"), wl=([[450.0, 550, 900]], "double"), bbl=([[1, 0, 1]], "uint8"), s=(words, "char")
    )
    raw = READER.open(path)
    assert raw.array.shape == (5, 7, 3) and raw.wavelength_nm.tolist() == [450, 550, 900]
    assert raw.bad_bands.tolist() == [False, True, False] and raw.meta["variable"] == "cube"
    check_reader(READER, path, cube)
    write_73(path, cube=(cube, "int16"), other=(cube[:, :, :2], "int16"), wl=([[450.0, 550, 900]], "double"))
    with pytest.raises(DataError, match=r"cube 5x7x3, other 5x7x2.*dataset\.variable"):
        READER.open(path)
    assert READER.open(path, variable="other").array.shape == (5, 7, 2)
    assert READER.open(path, guess=True).meta["variable"] == "cube"


def test_a_damaged_version_7_3_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    assert READER.recognizes(path)
    with pytest.raises(DataError, match=r"a\.mat: damaged or no HDF5 file") as error:
        READER.open(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\0\0\0\0" * 9])
def test_files_that_are_no_version_5_are_refused(content, tmp_path):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat: not a MATLAB v5 file"):
        READER.open(tmp_path / "a.mat")


def test_every_cut_of_a_file_is_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((5, 7, 3))}, do_compression=False)
    data = (tmp_path / "a.mat").read_bytes()
    for end in (130, 150, 180, len(data) - 9):
        (tmp_path / "b.mat").write_bytes(data[:end])
        with pytest.raises(DataError, match=r"b\.mat"):
            READER.open(tmp_path / "b.mat")


def test_dimensions_that_lie_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((5, 7, 3))}, do_compression=False)
    data = (tmp_path / "a.mat").read_bytes()
    true, false = np.array([5, 7, 3], "<i4").tobytes(), np.array([500000, 700, 300], "<i4").tobytes()
    assert data.count(true) == 1
    (tmp_path / "a.mat").write_bytes(data.replace(true, false))
    with pytest.raises(DataError, match="promises"):
        READER.open(tmp_path / "a.mat")


@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_type_equals_scipy(dtype, compressed, tmp_path):
    cube = np.random.default_rng(0).integers(0, 100, (5, 7, 3)).astype(dtype)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a_struct": {"x": 1}, "cube": cube, "text": "words"}, do_compression=compressed)
    array, expected = READER.open(path).array, scipy.io.loadmat(path)["cube"]
    assert np.array_equal(array, expected) and array.dtype == expected.dtype
    mapped = isinstance(array, np.memmap) or isinstance(array.base, np.memmap)
    assert mapped is not compressed


def test_the_real_scene_equals_scipy():
    content = scipy.io.loadmat(SALTON, variable_names=["I", "rgb"])
    for name in ("I", "rgb"):
        assert np.array_equal(READER.open(SALTON, variable=name).array, content[name], equal_nan=name == "I")


def test_big_endian_files_and_narrow_storage_are_read(tmp_path):
    """An array written by hand: double values stored as bytes, big-endian, with a name in a small element."""
    values = np.arange(24, dtype=np.uint8)
    body = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIiiii", 5, 12, 2, 3, 4, 0)
    body += struct.pack(">HH4s", 2, 1, b"ab\0\0") + struct.pack(">II", 2, 24) + values.tobytes()
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body)
    array = READER.open(path).array
    assert np.array_equal(array, values.reshape((2, 3, 4), order="F")) and array.dtype == np.float64
    assert np.array_equal(scipy.io.loadmat(path)["ab"], array)
