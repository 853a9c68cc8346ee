"""numpy cubes: layouts, sidecars, and files that lie."""

import json
import pickle
import time
import zipfile

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.containers.npy import build
from gen_hyperspectral.reader_options import NpyReader

READER = build(NpyReader())


@pytest.fixture
def cube():
    return np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_byte_orders_and_fortran_order_are_mapped(dtype, order, cube, tmp_path):
    array = np.asarray((cube * 200).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    raw = READER.open(tmp_path / "a.npy")
    assert np.array_equal(raw.array, array) and raw.axes == "yxb"
    assert not raw.array.flags.owndata
    check_reader(READER, tmp_path / "a.npy", array)


def test_npz_takes_its_only_cube_and_its_wavelengths(cube, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=cube, wl=[0.45, 0.55, 0.9], bbl=[1, 1, 0])
    raw = READER.open(path)
    assert np.array_equal(raw.array, cube)
    assert raw.wavelength_nm.tolist() == pytest.approx([450, 550, 900])
    assert raw.bad_bands.tolist() == [False, False, True]
    check_reader(READER, path, cube)


def test_npz_with_several_cubes_asks_and_a_guess_is_told(cube, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=cube, rgb=cube[:, :, :2], wavelength_nm=[450, 550, 900])
    with pytest.raises(DataError, match=r"x 5x7x3, rgb 5x7x2.*dataset\.variable"):
        READER.open(path)
    assert READER.open(path, variable="rgb").array.shape == (5, 7, 2)
    guessed = READER.open(path, guess=True)
    assert guessed.meta["variable"] == "x" and any("took 'x'" in w for w in guessed.warnings)
    with pytest.raises(DataError, match="dataset.variable = 'y'"):
        READER.open(path, variable="y")


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.json", json.dumps({"wavelengths": [0.45, 0.55, 0.9], "wavelength_units": "um"})),
        ("a.json", json.dumps({"wavelength_nm": [450, 550, 900]})),
        ("a.json", json.dumps([450, 550, 900])),
        ("a.csv", "band,wavelength_nm,fwhm\n1,450,5\n2,550,5\n3,900,5\n"),
        ("a.csv", "450;550;900\n"),
        ("a.txt", "# nm\n450\n550\n900\n"),
        ("wavelengths.txt", "450 550 900"),
    ],
)
def test_sidecars_give_wavelengths(name, text, cube, tmp_path):
    np.save(tmp_path / "a.npy", cube)
    (tmp_path / name).write_text(text)
    raw = READER.open(tmp_path / "a.npy")
    assert raw.wavelength_nm.tolist() == pytest.approx([450, 550, 900])
    assert tmp_path / name in READER.files(tmp_path / "a.npy")


def test_bands_first_is_seen_from_the_sidecar_the_count_or_square_planes(cube, tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, cube.transpose(2, 0, 1))
    (tmp_path / "a.json").write_text('{"wavelength_nm": [450, 550, 900]}')
    assert np.array_equal(READER.open(path).array, cube)
    (tmp_path / "a.json").write_text('{"axes": "byx", "units": "reflectance", "nodata": -1, "bad_bands": [0, 1, 0]}')
    raw = READER.open(path)
    assert np.array_equal(raw.array, cube)
    assert raw.meta["units"] == "reflectance" and raw.nodata == -1 and raw.bad_bands.tolist() == [False, True, False]
    (tmp_path / "a.json").unlink()
    square = np.zeros((3, 6, 6))
    np.save(path, square)
    raw = READER.open(path)
    assert raw.array.shape == (6, 6, 3) and any("square" in w for w in raw.warnings)
    np.save(path, cube)
    raw = READER.open(path)
    assert raw.array.shape == (5, 7, 3) and any("taken as (y, x, band)" in w for w in raw.warnings)
    assert build(NpyReader("bxy")).open(path).array.shape == (3, 7, 5)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{", "not JSON"),
        ("3", "must be a JSON object"),
        ('{"wavelengths": "blue"}', "key 'wavelengths'"),
        ('{"axes": "xyz"}', "key 'axes'"),
        ('{"nodata": "none"}', "key 'nodata'"),
    ],
)
def test_damaged_sidecars_are_named_with_their_key(text, expected, cube, tmp_path):
    np.save(tmp_path / "a.npy", cube)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=expected) as error:
        READER.open(tmp_path / "a.npy")
    assert "a.json" in str(error.value)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[[Bomb()]]], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        READER.open(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", a=np.array([[[Bomb()]]], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        READER.open(tmp_path / "b.npz")
    (tmp_path / "c.npy").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="not a numpy file"):
        READER.open(tmp_path / "c.npy")


def lying_header(shape):
    array = np.zeros((5, 7, 3), "<f4")
    from io import BytesIO

    out = BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return out.getvalue() + array.tobytes()


def test_a_header_that_lies_about_size_costs_nothing(tmp_path):
    began = time.perf_counter()
    (tmp_path / "a.npy").write_bytes(lying_header((50000, 70000, 300)))
    with pytest.raises(DataError, match=r"a\.npy: header says shape \[50000, 70000, 300\].*truncated"):
        READER.open(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", lying_header((50000, 70000, 300)))
    with pytest.raises(DataError, match="promises more data"):
        READER.open(tmp_path / "b.npz")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.zeros((2, 3, 4), complex), "complex128 is not a real number type"),
        (np.zeros((2, 3, 4, 5)), "expected three axes"),
        (np.zeros((2, 0, 4)), "empty axis"),
        (np.float64(1.0), "single number"),
        (np.zeros(3, "datetime64[s]"), "not a real number type"),
    ],
)
def test_arrays_that_are_no_cube_are_refused(array, expected, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=expected):
        READER.open(tmp_path / "a.npy")


def test_damaged_archives_are_refused(cube, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=cube)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz"):
        READER.open(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        READER.open(tmp_path / "a.npz")


def test_one_channel_and_single_band_arrays_are_taken(cube, tmp_path):
    np.save(tmp_path / "a.npy", cube.transpose(2, 0, 1)[None])
    assert np.array_equal(READER.open(tmp_path / "a.npy").array, cube)
    np.save(tmp_path / "b.npy", cube[:, :, 0])
    assert READER.open(tmp_path / "b.npy").array.shape == (5, 7, 1)
