"""Band selection against plain loops."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_hyperspectral.prepare.bands import evenly, gaussian, good_bands, nearest

WAVELENGTH = np.array([400.0, 410, 425, 450, 500, 510, 600])


def test_bad_bands_come_from_the_file_and_the_recipe():
    bad = np.array([1, 0, 0, 0, 0, 0, 0], bool)
    assert good_bands(7, bad, (6,)).tolist() == [1, 2, 3, 4, 5]
    assert good_bands(3, None).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"dataset\.bad_bands names band 7; the cube has bands 0\.\.6"):
        good_bands(7, bad, (7,))
    with pytest.raises(DataError, match="every band"):
        good_bands(1, np.array([True]))


def test_even_bands_rise_in_wavelength_and_keep_the_ends():
    good = np.array([0, 1, 3, 4, 6])
    assert evenly(good, WAVELENGTH, 3).tolist() == [0, 3, 6]
    assert evenly(good, WAVELENGTH[::-1], 5).tolist() == [6, 4, 3, 1, 0]
    assert evenly(good, None, 2).tolist() == [0, 6]
    with pytest.raises(DataError, match="asks for 6 bands, the cube has 5 good ones"):
        evenly(good, None, 6)


def test_nearest_takes_the_nearest_good_band():
    good = np.array([0, 2, 3, 4, 6])
    chosen = nearest(WAVELENGTH, good, np.array([409.0, 448, 505]), 20.0)
    assert chosen.weights is None and chosen.index.tolist() == [0, 3, 4]
    with pytest.raises(DataError, match=r"no good band within 20 nm of 550 nm \(nearest: 500 nm\)"):
        nearest(WAVELENGTH, good, np.array([550.0]), 20.0)


def test_gaussian_weights_equal_a_plain_loop():
    targets, fwhm = np.array([420.0, 505.0]), 30.0
    chosen = gaussian(WAVELENGTH, np.arange(7), targets, fwhm)
    gradient = np.gradient(WAVELENGTH)
    sigma = fwhm / 2.354820045
    for t, row in zip(targets, chosen.weights):
        w = np.array([np.exp(-((x - t) ** 2) / (2 * sigma**2)) * g for x, g in zip(WAVELENGTH, gradient)])
        w[w < 1e-4 * w.max()] = 0
        assert row == pytest.approx((w / w.sum())[chosen.index], rel=1e-5)
    assert chosen.weights.sum(axis=1) == pytest.approx([1, 1])
    assert 6 not in chosen.index  # 600 nm is not read at all


def test_gaussian_keeps_a_straight_spectrum_on_an_even_grid():
    grid = np.arange(400.0, 700, 4)
    chosen = gaussian(grid, np.arange(len(grid)), np.array([500.0, 551.0]), 25.0)
    assert chosen.weights @ grid[chosen.index] == pytest.approx([500, 551], abs=0.05)


def test_gaussian_does_not_favour_where_bands_are_dense():
    grid = np.concatenate([np.arange(400.0, 500, 1), np.arange(500.0, 601, 5)])
    chosen = gaussian(grid, np.arange(len(grid)), np.array([500.0]), 60.0)
    assert (chosen.weights @ grid[chosen.index])[0] == pytest.approx(500, abs=1.0)


def test_gaussian_refuses_targets_without_bands():
    with pytest.raises(DataError, match=r"no good band within 10 nm of 550 nm.*dataset\.fwhm_nm"):
        gaussian(WAVELENGTH, np.arange(7), np.array([550.0]), 10.0)
