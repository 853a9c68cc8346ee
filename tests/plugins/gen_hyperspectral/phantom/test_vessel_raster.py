"""Tubes on a grid against the chord formula and their volume."""

import numpy as np
import pytest

from gen_hyperspectral.phantom.vessel_raster import rasterize
from gen_hyperspectral.phantom.vessel_tree import ARTERY, VEIN, VesselTree


def tube(start, stop, radius, kind=ARTERY):
    return VesselTree(
        np.array([start], float), np.array([stop], float), np.array([radius]), np.array([kind]), np.zeros(1, int),
        np.zeros((0, 3)), np.array([-1]),
    )  # fmt: skip


def test_the_path_is_the_chord_of_a_round_tube():
    h, R = 0.02, 0.3
    path, inside = rasterize(tube((-5, 0.013), (5, 0.013), R), ARTERY, (61, 45), h)
    y = (np.arange(61) + 0.5 - 61 / 2) * h
    chord = 2 * np.sqrt(np.maximum(R**2 - (y - 0.013) ** 2, 0))
    np.testing.assert_allclose(path, np.repeat(chord[:, None], 45, 1), atol=2e-4)
    np.testing.assert_array_equal(inside, np.repeat((np.abs(y - 0.013) < R)[:, None], 45, 1))


@pytest.mark.parametrize("radius", [0.004, 0.02, 0.06])
def test_blood_volume_is_kept_at_every_resolution(radius):
    t = tube((-0.61, -0.33), (0.52, 0.41), radius)
    length = np.hypot(1.13, 0.74)
    for n in (40, 81, 322):
        h = 2.0 / n
        volume = rasterize(t, ARTERY, (n, n + 3), h)[0].sum() * h * h
        drawn = max(radius, 0.6 * h)
        caps = 4 / 3 * np.pi * drawn**3 * (radius / drawn) ** 2  # the piece ends in half balls
        assert volume == pytest.approx(np.pi * radius**2 * length + caps, rel=0.06)


def test_other_kinds_and_pieces_outside_leave_nothing():
    assert not rasterize(tube((-1, 0), (1, 0), 0.1, VEIN), ARTERY, (9, 11), 0.2)[0].any()
    assert not rasterize(tube((50, 0), (51, 0), 0.1), ARTERY, (9, 11), 0.2)[0].any()


def test_thin_vessels_have_blood_but_no_mask():
    path, inside = rasterize(tube((-1, 0), (1, 0), 0.04), ARTERY, (20, 24), 0.1, factor=2)
    assert path.any() and not inside.any()


def test_the_reflex_pales_the_axis_only():
    t = tube((-5, 0), (5, 0), 0.5)
    plain, shiny = (rasterize(t, ARTERY, (81, 3), 0.02, 1, r)[0][:, 1] for r in (0.0, 0.4))
    assert shiny[40] == pytest.approx(0.6 * plain[40], rel=0.01)
    assert shiny[18] == pytest.approx(plain[18], rel=0.05)
