"""What the outline of a reader encloses."""

import numpy as np

from gen_radiology.lidc.outlines import enclosed_by
from gen_radiology.lidc.readings import Contour


def ring(x, y, side, z, inclusion=True, uid=""):
    n = side + 1
    i, o = np.arange(n), np.zeros(n, int)
    path = np.concatenate([np.c_[i, o], np.c_[o + n, i], np.c_[n - i, o + n], np.c_[o, n - i]])
    return Contour(z, (path + (x - 1, y - 1)).astype(np.int32), inclusion, uid)


def test_an_outline_encloses_what_lies_inside_of_it():
    edge, inside = enclosed_by(ring(3, 5, 4, 0).points)
    assert inside.sum() == 16 and edge.sum() == 20 and not (edge & inside).any()
    assert inside[1:5, 1:5].all()


def test_corners_alone_and_a_doubled_start_give_the_same_outline():
    whole = enclosed_by(ring(3, 5, 7, 0).points)
    corners = np.array([[2, 4], [10, 4], [10, 12], [2, 12]])
    doubled = np.concatenate([ring(3, 5, 7, 0).points, ring(3, 5, 7, 0).points[:5]])
    for other in (corners, corners[::-1], doubled):
        for a, b in zip(whole, enclosed_by(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_inside_agrees_with_matplotlib_away_from_the_outline():
    from matplotlib.path import Path as Polygon

    rng = np.random.default_rng(3)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 15))
        points = np.rint(30 + rng.uniform(6, 28, (15, 1)) * np.c_[np.cos(angle), np.sin(angle)]).astype(int)
        edge, inside = enclosed_by(points)
        y, x = np.nonzero(~edge)
        left, top = points.min(0)
        expected = Polygon(np.r_[points, points[:1]]).contains_points(np.c_[x + left, y + top])
        assert (inside[y, x] != expected).mean() < 0.004  # lines through a gap are rounded to pixels


def test_lines_and_points_enclose_nothing():
    for points in ([[4, 4]], [[1, 2], [2, 3], [3, 4]], [[5, 1], [5, 9]]):
        edge, inside = enclosed_by(np.array(points))
        assert edge.any() and not inside.any()
