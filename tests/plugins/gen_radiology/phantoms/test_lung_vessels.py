"""Trees of the lungs: connected, Murray's rule, inside the pleura."""

import numpy as np
import pytest

from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT, draw_chest, lung_sdf
from gen_radiology.phantoms.lung_vessels import MURRAY, airways, grow, spread, vessels

TARGETS = np.random.default_rng(0).uniform(-60, 60, (50, 3))
ROOT = np.array([0.0, -80.0, 3.0])


@pytest.fixture(scope="module")
def tree():
    return grow(ROOT, TARGETS, 0.9, np.random.default_rng(1))


def test_every_target_is_reached_from_the_root(tree):
    for target in TARGETS:
        assert np.abs(tree.stop - target).sum(1).min() < 1e-9
    ends = {tuple(p) for p in tree.stop} | {tuple(ROOT)}
    assert all(tuple(p) in ends for p in tree.start)  # each piece begins where another ends


def test_radii_follow_murrays_rule_where_branches_leave(tree):
    for point, r in zip(tree.stop, tree.r1):
        children = tree.r1[(tree.start == point).all(1)]
        if len(children) > 1 and np.abs(TARGETS - point).sum(1).min() > 1e-9:
            assert r**MURRAY == pytest.approx((children**MURRAY).sum(), rel=1e-6)
    assert tree.r1.min() == pytest.approx(0.9)
    at_root = tree.r1[(tree.start == ROOT).all(1)]
    assert (at_root**MURRAY).sum() == pytest.approx(len(TARGETS) * 0.9**MURRAY, rel=1e-6)


def test_a_tree_is_shorter_than_straight_lines_from_the_root(tree):
    length = np.linalg.norm(tree.stop - tree.start, axis=1).sum()
    assert length < 0.6 * np.linalg.norm(TARGETS - ROOT, axis=1).sum()


def test_targets_fill_the_lung_and_stay_off_the_pleura():
    chest = draw_chest(np.random.default_rng(4))
    for side in (RIGHT, LEFT):
        points = spread(chest, side, 20.0, np.random.default_rng(5))
        assert 80 < len(points) < 500
        assert (lung_sdf(chest, *points.T, side) < -3).all()
        assert np.ptp(points[:, 0]) > 120


def test_most_of_the_vessels_lie_in_the_lungs_and_taper():
    chest = draw_chest(np.random.default_rng(6))
    tubes = vessels(chest, np.random.default_rng(7))
    sdf = np.minimum(*(lung_sdf(chest, *tubes.stop.T, s) for s in (RIGHT, LEFT)))
    assert (sdf < 0).mean() > 0.85
    assert 4 < tubes.r0.max() < 12 and (tubes.r1 <= tubes.r0 + 1e-9).all()


def test_airways_come_down_the_neck_and_part_at_the_carina():
    chest = draw_chest(np.random.default_rng(6))
    tubes = airways(chest, np.random.default_rng(7))
    assert tubes.start[0, 0] > 200 and tubes.r0.max() == pytest.approx(8.6)
    for side in (RIGHT, LEFT):
        assert (side * tubes.stop[:, 2]).max() > 60
