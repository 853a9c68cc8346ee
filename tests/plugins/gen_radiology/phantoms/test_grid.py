"""Grids and smooth fields: places in mm, and the same field however it is asked for."""

import numpy as np
import pytest

from gen_radiology.phantoms.grid import Grid, SmoothField, ellipsoid, paint, soft

GRID = Grid.centred((5, 6, 7), (4.0, 3.0, 2.0), z_mm=11.0)


def test_a_grid_is_centred_and_its_affine_leads_to_lps():
    z, y, x = GRID.axes
    assert z.shape == (5, 1, 1) and y.shape == (1, 6, 1) and x.shape == (1, 1, 7)
    assert [a.mean() for a in (z, y, x)] == pytest.approx([11.0, 0.0, 0.0], abs=1e-6)
    at = GRID.affine @ [1, 2, 3, 1]
    np.testing.assert_allclose(at, [x.ravel()[3], y.ravel()[2], z.ravel()[1], 1.0])


def test_a_box_holds_what_is_near_and_its_grid_lies_there():
    box = GRID.box(np.array([11.0, 1.5, 0.0]), np.array([4.5, 3.1, 2.1]))
    assert [(s.start, s.stop) for s in box] == [(1, 4), (2, 5), (2, 5)]
    part = GRID.part(box)
    for whole, cut, s in zip(GRID.axes, part.axes, box):
        np.testing.assert_allclose(whole.ravel()[s], cut.ravel())
    far = GRID.box(np.array([500.0, 0.0, 0.0]), 3.0)
    assert GRID.part(far).size[0] == 0


def test_a_field_is_the_same_on_a_grid_and_at_points():
    field = SmoothField.draw(np.random.default_rng(3), (9.0, 14.0, 11.0), 40.0)
    z, y, x = GRID.axes
    on = field.on(z, y, x)
    points = np.stack(np.meshgrid(z.ravel(), y.ravel(), x.ravel(), indexing="ij"), -1).reshape(-1, 3)
    assert on.dtype == np.float32
    np.testing.assert_allclose(on.ravel(), field.at(points), atol=1e-5)


def test_a_field_has_unit_variance_and_is_smooth_over_its_pitch():
    field = SmoothField.draw(np.random.default_rng(4), 10.0, 300.0)
    at = np.arange(-250, 250, 5.0, dtype=np.float32)
    v = field.on(at, at, at)
    assert v.std() == pytest.approx(1.0, abs=0.03) and abs(v.mean()) < 0.05
    near, far = (float((v[k:] * v[:-k]).mean()) for k in (1, 10))
    assert near > 0.8 and abs(far) < 0.05


def test_soft_edges_keep_the_volume_of_a_ball():
    grid = Grid.centred((24, 26, 28), (2.0, 2.0, 2.0), 0.0)
    share = soft(ellipsoid(*grid.axes, (0.3, -0.4, 0.1), (15.0, 15.0, 15.0)), grid.width)
    assert share.min() == 0 and share.max() == 1
    assert share.sum() * 8 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.01)


def test_an_ellipsoid_is_negative_inside_and_zero_on_its_surface():
    at = [np.array(v, np.float32) for v in ((0, 4, 0, 0, 8), (0, 0, 6, 0, 0), (0, 0, 0, 9, 0))]
    np.testing.assert_allclose(ellipsoid(*at, (0, 0, 0), (4.0, 6.0, 9.0)), [-4, 0, 0, 0, 4], atol=1e-4)


def test_painting_mixes_by_the_share():
    image = np.full(3, -1000.0, np.float32)
    paint(image, np.float32([0.0, 0.25, 1.0]), 60.0)
    np.testing.assert_allclose(image, [-1000, -735, 60])
