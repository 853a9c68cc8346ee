"""The chest: coordinates there and back, everything in its place."""

import numpy as np
import pytest
from attrs import evolve

from gen_radiology.phantoms import lung_anatomy as anatomy
from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT


@pytest.fixture(scope="module", params=[0, 1, 2])
def chest(request):
    return anatomy.draw_chest(np.random.default_rng(request.param))


def test_points_lead_to_the_patient_and_back(chest):
    points = np.random.default_rng(0).uniform(-120, 120, (50, 3))
    back = anatomy.to_canonical(chest, anatomy.to_patient(chest, points))
    np.testing.assert_allclose(back, points, atol=0.1)


def test_a_grid_is_placed_as_its_points_are(chest):
    grid = Grid.centred((3, 4, 5), (30.0, 40.0, 35.0), 12.0)
    p = anatomy.place(chest, grid)
    z, y, x = grid.axes
    points = np.stack(np.meshgrid(z.ravel(), y.ravel(), x.ravel(), indexing="ij"), -1).reshape(-1, 3)
    at = anatomy.to_canonical(chest, points)
    np.testing.assert_allclose(p.x.ravel(), at[:, 2], atol=1e-3)
    np.testing.assert_allclose(p.y.ravel(), at[:, 1], atol=1e-3)
    np.testing.assert_allclose(p.z.ravel(), at.reshape(3, 4, 5, 3)[:, 0, 0, 0], atol=1e-3)


def test_lungs_lie_on_their_sides_and_never_in_heart_or_spine(chest):
    points = np.random.default_rng(1).uniform((-140, -110, -150), (110, 110, 150), (20000, 3))
    for side in (RIGHT, LEFT):
        inside = points[anatomy.lung_sdf(chest, *points.T, side) < 0]
        assert len(inside) > 500 and (side * inside[:, 2] > 0).all()
        assert (anatomy.heart_sdf(chest, *inside.T) > 0).all()
        y, x = anatomy.spine_line(chest, inside[:, 0])
        assert (np.hypot(inside[:, 1] - y, inside[:, 2] - x) > 20).all()
        assert (inside[:, 0] > anatomy.dome_height(chest, inside[:, 1], inside[:, 2], side) - 1e-6).all()


def test_the_two_lungs_of_many_chests_differ_in_size():
    points = np.random.default_rng(2).uniform((-140, -110, -150), (110, 110, 150), (20000, 3))
    volumes = []
    for seed in range(12):
        c = anatomy.draw_chest(np.random.default_rng(seed))
        sides = [(anatomy.lung_sdf(c, *points.T, s) < 0).sum() for s in (RIGHT, LEFT)]
        volumes.append([*sides, np.prod(c.scale)])
    volumes = np.array(volumes, float)
    assert (volumes[:, 0] > 0.8 * volumes[:, 1]).all()
    assert (volumes[:, :2].sum(1) * volumes[:, 2]).std() > 100


def test_outlines_grow_with_fat():
    grid = Grid.centred((3, 60, 64), (40.0, 7.0, 7.0), -30.0)
    chest = evolve(anatomy.draw_chest(np.random.default_rng(5)), female=False)
    slim, stout = (evolve(chest, fat=f) for f in (6.0, 26.0))
    areas = [(anatomy.body_sdf(c, anatomy.place(c, grid)) < 0).sum() for c in (slim, stout)]
    assert areas[1] > 1.15 * areas[0]
