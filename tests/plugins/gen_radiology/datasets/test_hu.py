"""Scales: windows and percentiles, exact quantiles against numpy, Otsu against scikit-image's definition by hand."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dataset_options import Intensity
from gen_radiology.datasets.hu import (
    LazyScale,
    foreground,
    otsu,
    pooled_quantiles,
    to_unit,
    training_scale,
    volume_scale,
    window,
)

RNG = np.random.default_rng(3)


def ends(scale):
    return float(scale.lo.item()), float(scale.hi.item())


def test_a_window_maps_its_ends_to_one_and_comes_back():
    scale = window(-1000.0, 1000.0)
    hu = np.array([-1000.0, -500.0, 0.0, 1000.0], np.float32).reshape(1, 1, 2, 2)
    x, valid = to_unit(hu[0], scale)
    assert x.ravel().tolist() == [-1.0, -0.5, 0.0, 1.0] and x.shape == (1, 1, 2, 2) and valid.all()
    fine = RNG.uniform(-1000, 1000, (1, 3, 4, 5)).astype(np.float32)
    assert np.allclose(scale.to_physical(to_unit(fine[0], scale)[0]), fine, atol=1e-3)


def test_values_outside_are_clipped_and_missing_ones_take_the_pad_value():
    volume = np.array([-2048.0, 3000.0, np.nan, np.inf], np.float32).reshape(1, 1, 4)
    x, valid = to_unit(volume, window(-1000.0, 1000.0))
    assert x.ravel().tolist() == [-1, 1, -1, -1] and valid.ravel().tolist() == [True, True, False, False]
    x, _ = to_unit(volume, window(-1000.0, 1000.0), pad=250.0)
    assert x.ravel().tolist() == [-1, 1, 0.25, 0.25] and x.dtype == np.float32


def test_a_window_that_does_not_rise_is_refused():
    with pytest.raises(DataError, match="lo = 5 must lie below hi = 5"):
        window(5.0, 5.0)
    with pytest.raises(ValueError, match="scale.hi"):
        Intensity(lo=100.0, hi=-100.0)
    with pytest.raises(ValueError, match="scale.high"):
        Intensity(low=0.9, high=0.1)


def test_percentiles_of_a_volume_are_those_of_its_foreground():
    volume = np.zeros((4, 10, 25), np.float32)
    values = RNG.gamma(3.0, 100.0, (2, 10, 25)).astype(np.float32)
    volume[1:3] = values
    volume[3] = np.nan
    low, high = ends(volume_scale(volume, Intensity(low=0.01, high=0.9)))
    assert np.allclose([low, high], np.quantile(values, [0.01, 0.9]), rtol=1e-6)
    everything = ends(volume_scale(volume, Intensity(low=0.01, high=0.9, foreground="all")))
    assert np.allclose(everything, np.quantile(volume[:3], [0.01, 0.9]), rtol=1e-6)


def test_constant_and_empty_volumes_get_a_range():
    for value in (0.0, 7.0, -1e6):
        low, high = ends(volume_scale(np.full((1, 2, 3), value, np.float32), Intensity()))
        assert low == value and high > low
    assert ends(volume_scale(np.full((1, 2, 3), np.nan, np.float32), Intensity())) == (0.0, 1.0)


def test_pooled_quantiles_are_exact_over_any_range():
    parts = [
        RNG.normal(size=501).astype(np.float32),
        (RNG.normal(size=300) * 1e6).astype(np.float32),
        np.array([0.0, -0.0, 1e-30, -1e30, 1e30], np.float32),
    ]
    pooled = np.concatenate(parts)
    shares = (0.0, 0.003, 0.25, 0.5, 0.77, 1.0)
    assert np.array_equal(pooled_quantiles(lambda: parts, shares), np.quantile(pooled, shares, method="lower"))
    with pytest.raises(DataError, match="no finite value"):
        pooled_quantiles(lambda: [], (0.5,))


def test_the_scale_of_a_training_set_pools_the_foreground():
    volumes = [RNG.gamma(2.0, s, (3, 4, 5)).astype(np.float32) for s in (10.0, 90.0, 400.0)]
    volumes[1][0] = 0.0
    pooled = np.concatenate([v[v != 0] for v in volumes])
    scale = training_scale(lambda: iter(volumes), Intensity(low=0.1, high=0.9))
    assert np.allclose(ends(scale), np.quantile(pooled, [0.1, 0.9], method="lower"))


def test_otsu_leaves_least_variance_within_two_groups():
    values = np.concatenate([RNG.normal(100, 10, 700), RNG.normal(300, 30, 300)])
    found = otsu(values)
    cost = lambda t: sum(g.var() * g.size for g in (values[values <= t], values[values > t]))
    assert cost(found) <= min(cost(t) for t in np.linspace(110, 290, 400)) * 1.001
    assert 0 < otsu(np.array([0.0, 0.0, 1.0])) < 1 and otsu(np.full(4, 2.5)) == 2.5


def test_the_foreground_is_never_empty_unless_nothing_is_finite():
    zero = np.zeros((1, 2, 2), np.float32)
    assert foreground(zero, "nonzero").all() and foreground(zero, "otsu").all()
    assert not foreground(np.full((1, 2, 2), np.nan), "otsu").any()
    two = np.array([[[0.0, 1.0, np.nan, 5.0]]])
    assert foreground(two, "all").ravel().tolist() == [True, True, False, True]
    assert foreground(two, "nonzero").ravel().tolist() == [False, True, False, True]
    assert foreground(two, "otsu").ravel().tolist() == [False, False, False, True]


def test_a_lazy_scale_is_estimated_when_asked():
    asked = []
    scale = LazyScale(lambda: asked.append(1) or window(0.0, 10.0))
    assert not asked and scale.to_physical(np.zeros((1, 1, 1, 1), np.float32)).item() == 5.0 and asked
