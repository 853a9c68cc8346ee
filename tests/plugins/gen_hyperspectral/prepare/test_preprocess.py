"""From raw cube to volume: every layout, and each policy against plain arithmetic on whole arrays."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import gen_hyperspectral.prepare.preprocess as module
from gen_core.errors import DataError
from gen_core.writer import RawVolume
from gen_hyperspectral.prepare.area_resize import area_resize
from gen_hyperspectral.prepare.band_blocks import Policy
from gen_hyperspectral.prepare.bands import Selection
from gen_hyperspectral.prepare.preprocess import preprocess

Y, X, B = 13, 11, 6
PICK = Selection(np.array([1, 2, 4]))
PLAIN = Policy()
RNG = np.random.default_rng(0)
WEIGHTS = RNG.random((2, 3)).astype(np.float32)
MIX = Selection(np.array([0, 3, 5]), WEIGHTS / WEIGHTS.sum(axis=1, keepdims=True))


def cube(dtype="f4"):
    return (np.random.default_rng(1).random((Y, X, B)) * 100).astype(dtype)


def run(array, selection=PICK, size=(5, 4), policy=PLAIN, **kw):
    meta = kw.pop("meta", {})
    out = np.empty((selection.depth, *size), np.float32)
    counts = preprocess(
        RawVolume(array, "yxb", nodata=kw.pop("nodata", None), meta=meta), selection, out, policy, "f.npy", **kw
    )
    return out, counts


@pytest.fixture(params=[1, 700, 1 << 20])
def block_bytes(request, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", request.param)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)], ids=["bip", "bsq", "bil"])
@pytest.mark.parametrize("dtype", ["f4", ">u2", "f8"])
@pytest.mark.parametrize("selection", [PICK, MIX], ids=["pick", "mix"])
@pytest.mark.parametrize("size", [(5, 4), (Y, X), (20, 4)])
def test_blocks_equal_the_whole(order, dtype, selection, size, block_bytes):
    array = cube(dtype)
    stored = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    out, counts = run(stored, selection, size)
    picked = array.astype(np.float64)[:, :, selection.index].transpose(2, 0, 1)
    if selection.weights is not None:
        picked = np.einsum("dk,kyx->dyx", selection.weights.astype(np.float64), picked)
    assert out == pytest.approx(area_resize(picked, size), rel=1e-5)
    assert (counts.missing, counts.saturated) == (0, 0)


def test_a_scale_factor_divides():
    out, _ = run(cube(), size=(Y, X), meta={"scale_factor": 50.0})
    assert out == pytest.approx(cube()[:, :, PICK.index].transpose(2, 0, 1) / 50, rel=1e-6)


def holes():
    array = cube()
    array[3, 5, 2] = np.nan
    array[7, 2, [1, 2, 4]] = np.inf
    return array


def test_missing_values_are_refused_by_default_naming_the_file_and_the_key(block_bytes):
    with pytest.raises(DataError, match=r'f\.npy: NaN.*dataset\.nan = "fill" or "mask"'):
        run(holes())


def test_missing_values_in_bands_not_used_do_no_harm():
    array = cube()
    array[:, :, 0] = np.nan
    assert np.isfinite(run(array)[0]).all()


def test_masked_pixels_leave_the_mean_and_empty_outputs_are_nan(block_bytes):
    array = holes()
    array[:3, :3] = np.nan  # covers output (0, 0) of 13/5 x 11/4 = 2.6 x 2.75 pixels, all but its rim
    out, counts = run(array, policy=Policy(nan="mask"))
    valid = np.isfinite(array[:, :, PICK.index]).all(axis=2)
    filled = np.where(valid[..., None], array, 0)[:, :, PICK.index].transpose(2, 0, 1)
    cover = area_resize(valid.astype(float), (5, 4))
    expected = area_resize(filled, (5, 4)) / np.maximum(cover, 1e-9)
    expected[:, cover < 0.5] = np.nan
    assert np.isnan(out[:, 0, 0]).all() and np.isnan(out).any(axis=0).sum() == (cover < 0.5).sum()
    assert np.allclose(out, expected, rtol=1e-5, equal_nan=True)
    assert counts.missing == 27 + 1 + 3


def test_filled_values_lie_on_the_line_between_good_bands(block_bytes):
    array, wavelength = holes(), np.array([400.0, 410, 440, 450, 500, 600])
    good = np.array([0, 1, 2, 3, 5])
    selection = Selection(np.array([1, 2, 3]))
    out, counts = run(array, selection, (Y, X), Policy(nan="fill"), good=good, wavelength=wavelength)
    spectrum = array[3, 5].astype(np.float64)
    assert out[1, 3, 5] == pytest.approx(np.interp(440, [410, 450], spectrum[[1, 3]]), rel=1e-5)
    spectrum = array[7, 2].astype(np.float64)
    assert out[:2, 7, 2] == pytest.approx(np.interp([410, 440], [400, 450], spectrum[[0, 3]]), rel=1e-5)
    assert out[2, 7, 2] == array[7, 2, 3]
    assert np.isfinite(out).all() and counts.missing == 3


def test_a_pixel_without_any_good_value_stays_invalid_when_filling():
    array = cube()
    array[4, 4] = np.nan
    out, _ = run(array, size=(Y, X), policy=Policy(nan="fill"))
    assert np.isnan(out[:, 4, 4]).all() and np.isnan(out).sum() == 3


def test_no_data_values_of_the_file_or_the_recipe_are_missing():
    array = cube("u2") + 1
    array[2, 2] = 0
    for kw in ({"nodata": 0.0, "policy": Policy(nan="mask")}, {"policy": Policy(nan="mask", nodata=0.0)}):
        out, counts = run(array, size=(Y, X), **kw)
        assert np.isnan(out[:, 2, 2]).all() and np.isnan(out).sum() == 3 and counts.missing == 3
    with pytest.raises(DataError, match="no-data"):
        run(array, nodata=0.0)


def test_saturated_values_are_kept_masked_or_refused():
    array = cube("u2")
    array[6, 1, 4] = 4095
    out, counts = run(array, size=(Y, X), policy=Policy(saturation=4095.0))
    assert out[2, 6, 1] == 4095 and counts.saturated == 1
    out, _ = run(array, size=(Y, X), policy=Policy(saturation=4095.0, saturated="mask"))
    assert np.isnan(out[:, 6, 1]).all() and np.isnan(out).sum() == 3
    with pytest.raises(DataError, match=r'f\.npy: saturated.*dataset\.saturated = "keep" or "mask"'):
        run(array, policy=Policy(saturation=4095.0, saturated="refuse"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
@pytest.mark.parametrize("order", [(1, 2, 0), (0, 1, 2)], ids=["bsq", "bip"])
def test_memory_does_not_grow_with_the_file(order, tmp_path):
    """A 160 MB cube to 16 x 250 x 500: less than 60 MB over the imports, the result's 8 MB included."""
    stored = (40, 1000, 2000) if order == (1, 2, 0) else (1000, 2000, 40)
    np.lib.format.open_memmap(tmp_path / "big.npy", "w+", "<u2", stored)[...] = 7
    script = f"""
        import numpy as np
        from gen_core.writer import RawVolume
        from gen_hyperspectral.prepare.bands import Selection
        from gen_hyperspectral.prepare.band_blocks import Policy
        from gen_hyperspectral.prepare.preprocess import preprocess
        peak = lambda: int([l for l in open("/proc/self/status") if "VmHWM" in l][0].split()[1])
        before = peak()
        array = np.load({str(tmp_path / "big.npy")!r}, mmap_mode="r").transpose({order})
        out = np.empty((16, 250, 500), np.float32)
        preprocess(RawVolume(array, "yxb"), Selection(np.arange(0, 32, 2)), out, Policy(), "big")
        print(peak() - before, out.min(), out.max())
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    grown, low, high = map(float, out.stdout.split())
    assert low == pytest.approx(7, abs=1e-5) and high == pytest.approx(7, abs=1e-5) and grown < 60_000
