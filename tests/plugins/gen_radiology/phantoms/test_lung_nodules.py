"""Nodules: their sizes are log-normal, those at the pleura touch it, spikes leave the volume alone."""

import numpy as np
import pytest
from scipy import stats

from gen_radiology.phantoms.grid import Grid
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT, draw_chest, lung_sdf, to_canonical
from gen_radiology.phantoms.lung_nodules import draw_diameter, draw_nodule, nodule_cover

GRID = Grid.centred((70, 80, 90), (3.0, 4.0, 3.8), -25.0)


def depth(chest, nodule):
    at = to_canonical(chest, nodule.centre[None]).T
    return -min(float(lung_sdf(chest, *at, s)[0]) for s in (RIGHT, LEFT)) * min(chest.scale)


def test_diameters_are_a_truncated_log_normal():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_diameter(rng, 5.0, 30.0) for _ in range(1500)])
    law = stats.lognorm(s=0.55, scale=9.0)
    lo, hi = law.cdf([5.0, 30.0])
    assert stats.kstest(drawn, lambda d: (law.cdf(d) - lo) / (hi - lo)).pvalue > 0.01
    assert drawn.min() >= 5 and drawn.max() <= 30


def test_a_range_far_out_in_the_tail_still_works():
    rng = np.random.default_rng(1)
    assert all(29.9 <= draw_diameter(rng, 29.9, 30.0) <= 30.0 for _ in range(20))


@pytest.mark.parametrize("seed", range(4))
def test_pleural_nodules_touch_the_pleura_and_others_do_not(seed):
    chest = draw_chest(np.random.default_rng(seed))
    for share, touches in ((1.0, True), (0.0, False)):
        nodule = draw_nodule(np.random.default_rng([seed, 1]), chest, GRID, ("solid",), 12.0, share)
        assert nodule.pleural is touches
        assert (depth(chest, nodule) < 0.55 * nodule.diameter) is touches


def test_without_lung_in_the_picture_there_is_no_nodule():
    chest = draw_chest(np.random.default_rng(0))
    head = Grid.centred((5, 20, 22), (4.0, 5.0, 5.0), 250.0)
    assert draw_nodule(np.random.default_rng(1), chest, head, ("solid",), 5.0, 0.2) is None


def test_spikes_go_beyond_the_body_and_are_no_part_of_it():
    chest = draw_chest(np.random.default_rng(2))
    found = [draw_nodule(np.random.default_rng(s), chest, GRID, ("solid",), 16.0, 0.0) for s in range(12)]
    spiky = next(n for n in found if len(n.spikes))
    fine = Grid.centred((50, 52, 54), (1.0, 1.1, 0.9), 0.0)
    grid = Grid(fine.size, fine.spacing, tuple(o + c for o, c in zip(fine.origin, spiky.centre)))
    _, whole, core, spikes = nodule_cover(spiky, grid)
    assert whole.sum() * 0.99 == pytest.approx(np.pi / 6 * spiky.diameter**3, rel=0.03)
    np.testing.assert_array_equal(whole, core)
    assert (spikes * (1 - whole)).sum() > 20
    assert any(not len(n.spikes) for n in found)


@pytest.mark.parametrize("kind, low, high", [("solid", 1, 1), ("part-solid", 0.45, 0.65), ("ground-glass", 0, 0)])
def test_the_solid_part_is_that_of_the_kind(kind, low, high):
    chest = draw_chest(np.random.default_rng(3))
    nodule = draw_nodule(np.random.default_rng(4), chest, GRID, (kind,), 18.0, 0.0)
    assert low <= nodule.core <= high
    _, whole, core, _ = nodule_cover(nodule, GRID)
    assert core.sum() <= whole.sum()
    assert (core.sum() > 0) == (nodule.core > 0)
