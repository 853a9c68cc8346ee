"""Scales against numpy's quantiles on everything at once."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.volume import Scale, VolumeSpec
from gen_hyperspectral.prepare.scaling import LazyScale, estimate_scale, fixed_scale


def volumes():
    rng = np.random.default_rng(0)
    out = [rng.gamma(2.0, 1.0 + 10 * np.arange(3)[:, None, None], (3, 31, 17)).astype(np.float32) for _ in range(4)]
    out[1][:, 3, 4] = np.nan
    return out


@pytest.mark.parametrize("low, high", [(0.01, 0.99), (0.0, 1.0), (0.0, 0.5)])
def test_quantiles_by_band_equal_numpy(low, high):
    scale = estimate_scale(volumes, low, high)
    everything = np.concatenate([v.reshape(3, -1) for v in volumes()], axis=1)
    for b in range(3):
        values = np.sort(everything[b][np.isfinite(everything[b])])
        n = len(values)
        for got, q in ((scale.lo[0, b, 0, 0], low), (scale.hi[0, b, 0, 0], high)):
            near = values[int(np.floor(q * (n - 1)))]  # the value of that rank, to bins of 2^-24 of the range
            assert got == pytest.approx(near, abs=2e-6 * float(np.ptp(values)))


def test_an_outlier_does_not_blur_the_quantile():
    data = np.linspace(0, 1, 10001, dtype=np.float32).reshape(1, 73, 137)
    data[0, 0, 0] = 1e6
    scale = estimate_scale(lambda: [data], 0.0, 0.5)
    assert scale.hi.item() == pytest.approx(0.5, abs=0.06)  # one bin of 1e6 / 4096^2


def test_one_scale_for_all_bands_on_request():
    scale = estimate_scale(volumes, 0.0, 1.0, per_band=False)
    everything = np.concatenate([v.ravel() for v in volumes()])
    assert scale.lo.shape == (1, 3, 1, 1)
    assert scale.lo.ravel().tolist() == [np.nanmin(everything)] * 3
    assert scale.hi.ravel().tolist() == [np.nanmax(everything)] * 3


def test_a_constant_band_can_be_scaled():
    scale = estimate_scale(lambda: [np.full((2, 3, 4), 7.0, np.float32)], 0.0, 1.0)
    assert np.isfinite(scale.to_unit(np.full((1, 2, 3, 4), 7.0))).all()


def test_no_volume_or_no_valid_value_is_told():
    with pytest.raises(DataError, match="no training volume"):
        estimate_scale(lambda: [], 0.0, 1.0)
    with pytest.raises(DataError, match="no valid value"):
        estimate_scale(lambda: [np.full((2, 3, 4), np.nan, np.float32)], 0.0, 1.0)


def test_fixed_scales_take_one_number_or_one_a_band():
    assert fixed_scale((0.0,), (1.0, 2.0, 3.0), 3).hi.ravel().tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"dataset\.scale\.lo has 2 numbers, expected 1 or 3"):
        fixed_scale((0.0, 1.0), (1.0,), 3)
    with pytest.raises(DataError, match="must lie below"):
        fixed_scale((0.0,), (1.0, 0.0, 1.0), 3)


def test_a_lazy_scale_is_a_scale_that_waits():
    calls = []

    def estimate():
        calls.append(1)
        return fixed_scale((0.0,), (4.0,), 2)

    lazy = LazyScale(estimate)
    spec = VolumeSpec(size=(2, 3, 4), scale=lazy)
    assert isinstance(spec.scale, Scale) and spec.shape == (1, 2, 3, 4) and not calls
    assert spec.scale.to_physical(np.zeros((1, 2, 1, 1))).ravel().tolist() == [2, 2]
    assert Scale.from_json(lazy.to_json()).hi.ravel().tolist() == [4, 4] and calls
