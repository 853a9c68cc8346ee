"""Inspection: real files against numbers made by others, through whatever readers are registered."""

import hashlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import gen_core.mapped
from gen_core.errors import DataError
from gen_core.inspect import inspect_path, statistics
from gen_core.registry import Registry

DATA = Path(__file__).parents[1] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())
FILES = {
    "envi_fpi/house_crop_4b_RAW.hdr": TRUTH["envi_fpi"]["house_crop_4b_RAW.hdr"],
    "envi_fenix/Radiometric_8x2_1x1.hdr": TRUTH["envi_fenix"]["Radiometric_8x2_1x1.hdr"],
    "mat_salton/salton_sea_roi.mat": TRUTH["mat_salton"]["salton_sea_roi.mat"]["variables"]["I"],
}


@pytest.fixture(scope="module")
def registry():
    return Registry.load("off")


@pytest.mark.parametrize("name", FILES)
def test_real_files_have_the_published_numbers(name, registry):
    truth, found = FILES[name], inspect_path(DATA / name, registry)
    assert found["shape"] == truth.get("shape_yxb", truth.get("shape")) and found["axes"] == "yxb"
    assert found["sha_f32"] == truth["sha_f32"]
    for key in ("min", "max", "mean"):
        assert found[key] == pytest.approx(truth[key], abs=1e-4)
    assert found["nonfinite"] == truth.get("nonfinite", 0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_wavelengths_bad_bands_and_warnings_are_told(registry):
    fpi, fenix, salton = (inspect_path(DATA / name, registry) for name in FILES)
    assert fpi["wavelength_nm"] is None and any("SP1" in w for w in fpi["warnings"])
    assert fenix["wavelength_nm"][0] == 379.87 and len(fenix["wavelength_nm"]) == 363
    assert len(salton["bad_bands"]) == 20 and salton["meta"]["variable"] == "I"
    assert any("rgb 51x56x3" in w and "took 'I'" in w for w in salton["warnings"])


def test_a_variable_and_wavelengths_can_be_given(registry):
    found = inspect_path(DATA / "mat_salton" / "salton_sea_roi.mat", registry, "rgb", [620.0, 540.0, 460.0])
    assert found["shape"] == [51, 56, 3] and found["wavelength_nm"] == [620.0, 540.0, 460.0]
    assert found["sha_f32"] == TRUTH["mat_salton"]["salton_sea_roi.mat"]["variables"]["rgb"]["sha_f32"]


def test_statistics_in_blocks_equal_the_whole(monkeypatch):
    array = np.random.default_rng(0).normal(size=(9, 7, 5))
    array[3, 2, 1], array[8, 0, 0] = np.nan, np.inf
    monkeypatch.setattr(gen_core.mapped.blocks, "__defaults__", (600,))
    for view in (array, array.transpose(1, 2, 0), array[::-1]):
        found, finite = statistics(view), view[np.isfinite(view)]
        assert found["sha_f32"] == hashlib.sha256(np.ascontiguousarray(view, "<f4").tobytes()).hexdigest()
        assert (found["min"], found["max"], found["nonfinite"]) == (finite.min(), finite.max(), 2)
        assert found["mean"] == pytest.approx(finite.mean(), rel=1e-12)


def test_arrays_without_a_finite_value_have_no_statistics():
    found = statistics(np.full((2, 3), np.nan))
    assert found["min"] is found["max"] is found["mean"] is None and found["nonfinite"] == 6


def test_files_nobody_knows_absent_files_and_folders_are_refused(registry, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"a\.txt: no reader recognizes this file \(installed: .*envi"):
        inspect_path(tmp_path / "a.txt", registry)
    with pytest.raises(DataError, match="no such file"):
        inspect_path(tmp_path / "b.txt", registry)
    with pytest.raises(DataError, match="name one of its files"):
        inspect_path(tmp_path, registry)
    with pytest.raises(DataError, match="installed: none"):
        inspect_path(tmp_path / "a.txt", Registry())
    (tmp_path / "c.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.npy: not a numpy file"):
        inspect_path(tmp_path / "c.npy", registry)


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A 160 MB cube stored by band: less than 70 MB over the imports."""
    path = tmp_path / "big.npy"
    np.lib.format.open_memmap(path, "w+", "<u2", (40, 1000, 2000))[7] = 5
    script = f"""
        from gen_core.inspect import inspect_path
        from gen_core.registry import Registry
        peak = lambda: int([l for l in open("/proc/self/status") if "VmHWM" in l][0].split()[1])
        import numpy as np, hashlib
        registry = Registry.load("off")
        before = peak()
        found = inspect_path({str(path)!r}, registry, wavelengths_nm=range(40))
        print(peak() - before, found["max"], found["shape"])
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    grown, high, *_ = out.stdout.split()
    assert int(high) == 5 and int(grown) < 70_000


def test_the_mean_of_values_whose_sum_is_beyond_float64_is_finite():
    values = np.array([1e308, 1.2e308, -1e300, np.inf, 1.7e308]).reshape(5, 1)
    found = statistics(values)
    assert found["mean"] == pytest.approx(float(np.mean(values[[0, 1, 2, 4], 0] / 1e300)) * 1e300)
    assert found["nonfinite"] == 1
