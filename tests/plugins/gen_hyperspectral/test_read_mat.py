"""MATLAB v5 cubes: a real scene against numbers made by others, the choice of variable, damaged files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.read_mat import build
from gen_hyperspectral.reader_options import MatReader

DATA = Path(__file__).parents[2] / "data"
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
    with pytest.raises(DataError, match="no 3-D numeric array"):
        READER.open(path)
    scipy.io.savemat(path, {"x": np.ones((3, 4, 2)) * 1j})
    with pytest.raises(DataError, match="expected a real 3-D array"):
        READER.open(path)


def test_version_7_3_is_refused_with_a_way_out(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    assert READER.recognizes(path)
    with pytest.raises(DataError, match=r"a\.mat: MATLAB v7\.3.*-v7"):
        READER.open(path)


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
    with pytest.raises(DataError, match="promises|cannot be read"):
        READER.open(tmp_path / "a.mat")
