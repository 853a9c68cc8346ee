"""Bands by wavelength, reduction by block means, one colour transform for all."""

from __future__ import annotations

import numpy as np

from gen_core.volume import VolumeSpec
from gen_report.display import colours, fitted_to, mosaic, nearest_bands, shown_planes


def test_bands_are_the_nearest_ones_and_none_comes_twice():
    assert nearest_bands((450, 540, 630, 720, 900), (900, 815, 730, 640, 555, 465)) == [4, 3, 2, 1, 0]


def test_planes_of_slices_are_spread_over_the_depth():
    spec = VolumeSpec(size=(40, 6, 8), depth="slices")
    assert [d for d, _ in shown_planes(spec, ())] == [3, 10, 16, 23, 30, 36]
    assert shown_planes(spec, ())[0][1] == "slice 4 of 40"
    assert shown_planes(VolumeSpec(size=(1, 6, 8), depth="none"), ()) == [(0, "image")]


def test_reduction_is_the_mean_of_blocks():
    plane = np.arange(7 * 10, dtype=float).reshape(7, 10)
    small = fitted_to(plane, 5)
    assert small.shape == (3, 5)
    assert small[1, 2] == np.mean([plane[2, 4], plane[2, 5], plane[3, 4], plane[3, 5]])
    assert fitted_to(plane, 10) is plane


def test_colours_take_the_bands_asked_for_and_stretch_alike():
    nm = (450.0, 480.0, 540.0, 630.0, 900.0)
    spec = VolumeSpec(size=(5, 9, 11), wavelength_nm=nm)
    real = np.random.default_rng(0).uniform(-1, 1, (1, 5, 9, 11)).astype(np.float32)
    show = colours(spec, [real], (630, 540, 480))
    assert show.planes == ((0, 3), (0, 2), (0, 1)) and "630, 540, 480 nm" in show.about
    picture = show(real)
    assert picture.shape == (9, 11, 3) and 0 <= picture.min() and picture.max() <= 1
    brighter = show(np.clip(real + 0.3, -1, 1))
    assert (brighter >= picture).all() and brighter.mean() > picture.mean() + 0.05


def test_three_channels_are_a_colour_image_and_one_plane_is_grey():
    image = VolumeSpec(size=(1, 4, 5), channels=("r", "g", "b"), depth="none")
    x = np.random.default_rng(1).uniform(-1, 1, (3, 1, 4, 5))
    assert colours(image, [x], ()).planes == ((0, 0), (1, 0), (2, 0))
    slices = VolumeSpec(size=(7, 4, 5), depth="slices")
    grey = colours(slices, [np.random.default_rng(2).uniform(-1, 1, (1, 7, 4, 5))], ())
    assert grey.planes == ((0, 3),) * 3


def test_a_flat_volume_gives_no_division_by_zero():
    spec = VolumeSpec(size=(3, 4, 5), wavelength_nm=(480.0, 540.0, 630.0))
    flat = np.full((1, 3, 4, 5), -1, np.float32)
    assert np.isfinite(colours(spec, [flat], (630, 540, 480))(flat)).all()


def test_a_mosaic_keeps_the_order_of_tiles_and_leaves_the_rest_white():
    tiles = [np.full((2, 3, 3), k / 10) for k in range(4)]
    page = mosaic(tiles, columns=3, side=6, gap=1)
    assert page.shape == (2 * 4 + 1, 3 * 6 + 2, 3)
    assert [page[0, 7 * k, 0] for k in range(3)] == [np.float32(k / 10) for k in range(3)]
    assert page[5, 0, 0] == np.float32(0.3) and page[5:, 7:].min() == 1
