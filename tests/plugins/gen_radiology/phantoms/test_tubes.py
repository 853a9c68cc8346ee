"""Tubes against the volumes of cylinders and balls, thick and thin."""

import numpy as np
import pytest

from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.tubes import Tubes, cover

GRID = Grid.centred((30, 34, 38), (2.0, 1.8, 2.2), 0.0)
VOXEL = 2.0 * 1.8 * 2.2


def test_a_thick_tube_fills_a_cylinder_with_round_ends():
    line = np.array([(-14.0, -9.0, -12.0), (15.0, 10.0, 13.0)])
    length, r = np.linalg.norm(line[1] - line[0]), 7.0
    share = cover(GRID, Tubes.polyline(line, r))
    assert share.max() == 1
    assert share.sum() * VOXEL == pytest.approx(np.pi * r**2 * length + 4 / 3 * np.pi * r**3, rel=0.02)


@pytest.mark.parametrize("r", [0.2, 0.5, 0.8])
def test_a_tube_thinner_than_a_voxel_gets_fainter_with_its_cross_section(r):
    line = np.array([(-14.0, -9.0, -12.0), (15.0, 10.0, 13.0)])
    length = np.linalg.norm(line[1] - line[0])
    share = cover(GRID, Tubes.polyline(line, r)).sum() * VOXEL / length
    assert share == pytest.approx(np.pi * r**2, rel=0.5)
    thinner = cover(GRID, Tubes.polyline(line, r / 2)).sum() * VOXEL / length
    assert share / thinner == pytest.approx(4.0, rel=0.01)


def test_many_tubes_together_are_the_largest_of_each():
    rng = np.random.default_rng(0)
    ends = rng.uniform(-60, 60, (2, 40, 3))  # some leave the grid, some lie outside
    tubes = Tubes(ends[0], ends[1], rng.uniform(0.3, 9, 40), rng.uniform(0.3, 9, 40))
    single = [
        cover(GRID, Tubes(*(getattr(tubes, n)[k : k + 1] for n in ("start", "stop", "r0", "r1")))) for k in range(40)
    ]
    np.testing.assert_allclose(cover(GRID, tubes), np.max(single, 0), atol=1e-6)


def test_growing_makes_a_tube_wider_and_shrinking_below_nothing_leaves_none():
    tube = Tubes.polyline(np.array([(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)]), 4.0)
    assert cover(GRID, tube, 2.0).sum() > cover(GRID, tube).sum() > cover(GRID, tube, -2.0).sum() > 0
    assert cover(GRID, tube, -4.0).sum() == 0


def test_one_slice_is_enough():
    flat = Grid.centred((1, 34, 38), (5.0, 1.8, 2.2), 0.0)
    share = cover(flat, Tubes.polyline(np.array([(-30.0, 0.0, 0.0), (30.0, 0.0, 0.0)]), 8.0))
    assert share.sum() * 1.8 * 2.2 == pytest.approx(np.pi * 8**2, rel=0.03)
