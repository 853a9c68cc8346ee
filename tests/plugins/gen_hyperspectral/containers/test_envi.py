"""ENVI cubes: real files against numbers made by others, every layout, and each error message."""

import hashlib
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.containers.envi import build, find_header, parse_header
from gen_hyperspectral.reader_options import EnviReader

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())
CUBES = ["envi_fpi/house_crop_4b_RAW.hdr", "envi_fenix/Radiometric_8x2_1x1.hdr"]
READER = build(EnviReader())


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def write(folder, cube, interleave="bsq", order=0, code=4, offset=0, name="cube", suffix=".dat", **keys):
    """An independent ENVI writer: cube (y, x, band)."""
    y, x, b = cube.shape
    dtype = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}[code]
    stored = {"bsq": cube.transpose(2, 0, 1), "bil": cube.transpose(0, 2, 1), "bip": cube}[interleave]
    raw = stored.astype(np.dtype(dtype).newbyteorder("<>"[order])).tobytes()
    (folder / (name + suffix)).write_bytes(b"\xaa" * offset + raw)
    head = {
        "samples": x, "lines": y, "bands": b, "header offset": offset, "data type": code,
        "interleave": interleave, "byte order": order, **keys,
    }  # fmt: skip
    text = "ENVI\n" + "".join(f"{k} = {v}\n" for k, v in head.items() if v is not None)
    path = folder / f"{name}.hdr"
    path.write_text(text)
    return path


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 200, (5, 7, 3)).astype(np.float64)


@pytest.mark.parametrize("name", CUBES)
def test_real_files_have_the_published_numbers(name):
    truth = TRUTH[name.split("/")[0]][name.split("/")[1]]
    raw = READER.open(DATA / name)
    assert raw.axes == "yxb" and list(raw.array.shape) == truth["shape_yxb"]
    assert sha(raw.array) == truth["sha_f32"]
    assert raw.array.mean(dtype=np.float64) == pytest.approx(truth["mean"], abs=1e-5)
    assert raw.array[0, 0, :3].tolist() == pytest.approx(truth["first_pixel_first3_bands"], abs=1e-4)


@pytest.mark.parametrize("name", CUBES)
@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("order", [0, 1])
def test_real_files_rewritten_in_any_layout_keep_their_hash(name, interleave, order, tmp_path):
    truth = TRUTH[name.split("/")[0]][name.split("/")[1]]
    cube = np.asarray(READER.open(DATA / name).array)
    path = write(tmp_path, cube, interleave, order, int(truth["data_type"]), offset=13)
    raw = READER.open(path)
    assert sha(raw.array) == truth["sha_f32"]
    assert isinstance(raw.array.base, np.ndarray) and not raw.array.flags.owndata  # mapped, not read


def test_set_points_are_no_wavelengths_and_a_missing_unit_is_guessed_aloud():
    fpi, fenix = (READER.open(DATA / name) for name in CUBES)
    assert fpi.wavelength_nm is None and any("SP1" in w for w in fpi.warnings)
    assert fenix.wavelength_nm[[0, -1]].tolist() == [379.87, 2503.73]
    assert any("guessed to be nanometres" in w for w in fenix.warnings)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 12, 13, 14, 15])
def test_every_real_data_type_is_read(code, cube, tmp_path):
    raw = READER.open(write(tmp_path, cube, "bil", 1, code))
    assert np.array_equal(raw.array, cube)


def test_the_reader_keeps_the_contract(cube, tmp_path):
    check_reader(READER, write(tmp_path, cube), cube)


@pytest.mark.parametrize("suffix", [".dat", ".img", ".raw", ".bsq", ".DAT", ""])
def test_the_data_file_is_found_by_usual_names(suffix, cube, tmp_path):
    path = write(tmp_path, cube, suffix=suffix)
    assert np.array_equal(READER.open(path).array, cube)
    data = tmp_path / f"cube{suffix}"
    assert READER.recognizes(data) and find_header(data) == path
    assert READER.files(data) == [path, data]


def test_of_several_data_files_the_one_of_the_right_size_is_taken(cube, tmp_path):
    path = write(tmp_path, cube, suffix=".img")
    (tmp_path / "cube.dat").write_bytes(b"text")
    assert np.array_equal(READER.open(path).array, cube)


def test_headers_named_after_the_whole_file_name_are_found(cube, tmp_path):
    write(tmp_path, cube, name="a.bip", suffix="")
    assert np.array_equal(READER.open(tmp_path / "a.bip").array, cube)


def test_headers_are_parsed_tolerantly(cube, tmp_path):
    path = write(tmp_path, cube)
    text = path.read_text().replace("samples", "SAMPLES").replace("data type", "Data   Type")
    path.write_text(
        text + "; a comment = x\nwavelength = {\n 0.5,\n 0.6, 0.7,}\nWavelength Units = Micrometers\n"
        "bbl = {1, 0, 1}\nreflectance scale factor = 10000\ndata ignore value = -9999\nno equals sign\n"
    )
    raw = READER.open(path)
    assert raw.wavelength_nm.tolist() == pytest.approx([500, 600, 700])
    assert raw.bad_bands.tolist() == [False, True, False]
    assert raw.nodata == -9999 and raw.meta["scale_factor"] == 10000 and raw.meta["units"] == "reflectance"
    assert raw.warnings == []
    assert parse_header(path)["samples"] == "7"


def test_missing_keys_have_defaults_that_are_told(cube, tmp_path):
    path = write(tmp_path, cube)
    dropped = ("interleave", "byte order", "header offset")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith(dropped)))
    raw = READER.open(path)
    assert np.array_equal(raw.array, cube)
    assert any("interleave" in w for w in raw.warnings) and any("byte order" in w for w in raw.warnings)


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({"lines": None}, "key 'lines' is missing"),
        ({"data type": None}, "key 'data type' is missing"),
        ({"samples": "many"}, "key 'samples' is 'many', expected a whole number"),
        ({"bands": 0}, "key 'bands' is 0, expected at least 1"),
        ({"data type": 6}, "complex"),
        ({"data type": 9}, "complex"),
        ({"data type": 7}, "key 'data type' is 7, expected one of 1, 2"),
        ({"interleave": "bxy"}, "key 'interleave' is 'bxy'"),
        ({"byte order": 2}, "key 'byte order' is 2"),
        ({"header offset": -4}, "key 'header offset' is -4"),
        ({"file compression": 1}, "key 'file compression'"),
        ({"lines": 6}, "need 504 bytes, cube.dat has 420"),
        ({"reflectance scale factor": 0}, "reflectance scale factor"),
        ({"data ignore value": "none"}, "key 'data ignore value' is 'none'"),
    ],
)
def test_errors_name_file_and_key(keys, expected, cube, tmp_path):
    path = write(tmp_path, cube)
    given = {**parse_header(path), **keys}
    path.write_text("ENVI\n" + "".join(f"{k} = {v}\n" for k, v in given.items() if v is not None))
    with pytest.raises(DataError) as error:
        READER.open(path)
    assert "cube.hdr" in str(error.value) and expected in str(error.value)
    assert "\n" not in str(error.value)


def test_an_open_brace_a_wrong_first_line_and_absent_data_are_told(cube, tmp_path):
    path = write(tmp_path, cube)
    text = path.read_text()
    path.write_text(text + "wavelength = {1, 2,\n3")
    with pytest.raises(DataError, match="key 'wavelength': the brace is never closed"):
        READER.open(path)
    path.write_text(text.replace("ENVI\n", "NIFTI\n"))
    assert not READER.recognizes(path)
    with pytest.raises(DataError, match="first line is not 'ENVI'"):
        READER.open(path)
    path.write_text(text)
    (tmp_path / "cube.dat").unlink()
    with pytest.raises(DataError, match="no data file beside it"):
        READER.open(path)


def test_a_header_that_lies_about_size_costs_nothing(cube, tmp_path):
    path = write(tmp_path, cube)
    path.write_text(path.read_text().replace("lines = 5", "lines = 50000000000"))
    began = time.perf_counter()
    with pytest.raises(DataError, match="need"):
        READER.open(path)
    assert time.perf_counter() - began < 1


def test_wrong_counts_of_wavelengths_and_flags_are_warnings(cube, tmp_path):
    raw = READER.open(write(tmp_path, cube, wavelength="{500, 600}", bbl="{1}"))
    assert raw.wavelength_nm is None and raw.bad_bands is None
    assert any("2 wavelengths for 3 bands" in w for w in raw.warnings)
    assert any("1 bad-band flags for 3 bands" in w for w in raw.warnings)


def test_spectral_reads_the_same(cube, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectral = pytest.importorskip("spectral")
    path = write(tmp_path, cube, "bil", 1, 12, offset=5)
    assert np.array_equal(spectral.envi.open(str(path)).load(), READER.open(path).array)
