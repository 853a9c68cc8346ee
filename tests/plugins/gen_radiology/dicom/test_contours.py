"""Even-odd filling against crossing counts of every voxel by itself in exact fractions, and against matplotlib."""

from fractions import Fraction

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from gen_radiology.dicom.contours import fill_even_odd

SQUARE = np.array([[2.0, 3.0], [2.0, 9.0], [7.0, 9.0], [7.0, 3.0]])


def brute(polygons, shape):
    """One centre at a time, rational arithmetic: edges crossed by the ray towards smaller x, y half-open."""
    mask = np.zeros(shape, bool)
    for y, x in np.ndindex(shape):
        crossed = 0
        for polygon in polygons:
            points = [(Fraction(float(a)), Fraction(float(b))) for a, b in polygon]
            for (y0, x0), (y1, x1) in zip(points, points[1:] + points[:1]):
                if (y0 <= y) != (y1 <= y):
                    crossed += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
        mask[y, x] = crossed % 2
    return mask


def on_sixteenths(rng, n, shape):
    """Points at multiples of 1/16 of a voxel, some outside: many rows and centres are met exactly."""
    return rng.integers(-32, np.array(shape) * 16 + 32, (n, 2)) / 16


@pytest.mark.parametrize("seed", range(12))
def test_wild_polygons_agree_with_exact_crossing_counts(seed):
    rng = np.random.default_rng(seed)
    shape = (13, 17)
    polygons = [on_sixteenths(rng, n, shape) for n in (3, 5, 11)]
    assert np.array_equal(fill_even_odd(polygons, shape), brute(polygons, shape))


def test_a_smooth_outline_agrees_with_matplotlib_away_from_its_edge():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 11 + 3 * np.sin(5 * angle)
    polygon = np.stack([16.31 + radius * np.sin(angle), 20.77 + radius * np.cos(angle)], 1)
    y, x = np.mgrid[:35, :43]
    centres = np.stack([y.ravel(), x.ravel()], 1)
    truth = Outline(polygon).contains_points(centres).reshape(35, 43)
    mask = fill_even_odd([polygon], (35, 43))
    assert mask.sum() > 300 and np.array_equal(mask, truth)


def test_centres_on_the_left_and_upper_edge_are_inside_and_on_the_right_and_lower_edge_are_not():
    expected = np.zeros((11, 13), bool)
    expected[2:7, 3:9] = True
    assert np.array_equal(fill_even_odd([SQUARE], (11, 13)), expected)
    assert np.array_equal(fill_even_odd([SQUARE[::-1]], (11, 13)), expected)  # either direction of travel


def test_polygons_that_share_edges_cover_each_voxel_once():
    rng = np.random.default_rng(3)
    inner = rng.uniform(3, 9, 2)
    corners = np.array([[0.0, 0.0], [0.0, 12.0], [11.0, 12.0], [11.0, 0.0]])
    triangles = [np.array([corners[i], corners[(i + 1) % 4], inner]) for i in range(4)]
    total = sum(fill_even_odd([t], (11, 12)).astype(int) for t in triangles)
    assert (total == 1).all()


def test_a_hole_stays_a_hole_whether_it_runs_with_or_against_the_outer_contour():
    hole = np.array([[3.5, 4.5], [3.5, 6.5], [5.5, 6.5], [5.5, 4.5]])
    for inner in (hole, hole[::-1]):
        mask = fill_even_odd([SQUARE, inner], (11, 13))
        assert mask.sum() == 5 * 6 - 2 * 2 and not mask[4:6, 5:7].any()


@pytest.mark.parametrize("slope", [0.0, 0.37])
def test_a_keyhole_contour_gives_the_ring_without_a_seam(slope):
    hole = np.array([[3.5, 4.5], [5.5, 4.5], [5.5, 6.5], [3.5, 6.5]])
    bridge = np.array([[2.0, 3.0 + slope]])
    keyhole = np.concatenate([SQUARE, SQUARE[:1], bridge, hole, hole[:1], bridge])
    ring = fill_even_odd([SQUARE, hole], (11, 13))
    assert np.array_equal(fill_even_odd([keyhole], (11, 13)), ring)


def test_contours_reaching_beyond_the_slice_are_cut_off_and_cost_nothing():
    huge = np.array([[-1e9, -1e9], [-1e9, 1e9], [1e9, 1e9], [1e9, -1e9]])
    assert fill_even_odd([huge], (5, 7)).all()
    assert fill_even_odd([huge, SQUARE], (11, 13)).sum() == 11 * 13 - 30
    assert not fill_even_odd([SQUARE + 100], (11, 13)).any()
    assert not fill_even_odd([SQUARE - 100], (11, 13)).any()


def test_one_voxel_a_repeated_end_point_and_rounding_from_mm():
    one = np.array([[2.5, 3.5], [2.5, 4.5], [3.5, 4.5], [3.5, 3.5]])
    mask = fill_even_odd([np.concatenate([one, one[:1]])], (6, 9))
    assert mask.sum() == 1 and mask[3, 4]
    noise = np.random.default_rng(0).uniform(-1e-9, 1e-9, SQUARE.shape)
    assert np.array_equal(fill_even_odd([SQUARE + noise], (11, 13)), fill_even_odd([SQUARE], (11, 13)))


def test_nothing_to_fill_gives_an_empty_mask_and_a_coordinate_that_is_no_number_is_an_error():
    assert not fill_even_odd([], (3, 5)).any()
    assert not fill_even_odd([SQUARE[:2]], (11, 13)).any()
    assert not fill_even_odd([np.array([[2.0, 1.0], [2.0, 5.0], [2.0, 3.0]])], (4, 6)).any()  # a flat line
    with pytest.raises(ValueError, match="not finite"):
        fill_even_odd([np.array([[0.0, 1.0], [np.nan, 2.0], [3.0, 3.0]])], (4, 6))
