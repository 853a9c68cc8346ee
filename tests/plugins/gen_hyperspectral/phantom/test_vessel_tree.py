"""Vessel trees: Murray's law, no crossings, calibre, and the fovea left free."""

import numpy as np
import pytest

from gen_hyperspectral.phantom.vessel_tree import ARTERY, VEIN, crossings, grow_tree

FOVEA = np.array([4.5, 0.0])


def tree(number, scale=1.0):
    return grow_tree(np.random.default_rng([5, number]), FOVEA, scale)


def test_every_branching_obeys_murrays_law():
    r0, r1, r2 = tree(0).junctions.T
    assert len(r0) > 60
    np.testing.assert_allclose(r0**3, r1**3 + r2**3, rtol=1e-12)
    assert (r2 < r1).mean() > 0.9


@pytest.mark.parametrize("number", range(12))
def test_vessels_of_one_kind_never_cross(number):
    t = tree(number)
    assert crossings(t, ARTERY) == 0
    assert crossings(t, VEIN) == 0


def test_the_crossing_counter_sees_a_crossing():
    t = tree(1)
    of = np.flatnonzero(t.kind == ARTERY)
    a, b = of[0], of[t.line[of] != t.line[of[0]]][-1]  # lay a piece of another line across the first
    middle, d = (t.start[b] + t.stop[b]) / 2, t.stop[b] - t.start[b]
    t.start[a], t.stop[a] = middle + d[::-1] * [1, -1], middle - d[::-1] * [1, -1]
    assert crossings(t, ARTERY) >= 1


def test_arteries_and_veins_do_cross():
    t = tree(2)
    both = type(t)(t.start, t.stop, t.radius, np.zeros_like(t.kind), t.line, t.junctions, t.parent)
    assert crossings(both, ARTERY) > 0


def test_veins_are_wider_than_arteries():
    widest = {k: [] for k in (ARTERY, VEIN)}
    for n in range(8):
        t = tree(n)
        for k in widest:
            widest[k].append(t.radius[t.kind == k].max())
    assert np.mean(widest[VEIN]) / np.mean(widest[ARTERY]) == pytest.approx(1.3, abs=0.08)
    assert 0.05 < np.mean(widest[ARTERY]) < 0.07  # mm: a trunk is about 0.12 mm wide


def test_scale_changes_the_calibre_and_nothing_else():
    thin, thick = tree(3), tree(3, 2.5)
    np.testing.assert_array_equal(thin.start, thick.start)
    np.testing.assert_allclose(2.5 * thin.radius, thick.radius)


def test_the_fovea_is_free_and_the_arcades_pass_above_and_below():
    for n in range(6):
        t = tree(n)
        assert np.hypot(*(t.stop - FOVEA).T).min() > 0.5
        over = t.stop[(np.abs(t.stop[:, 0] - FOVEA[0]) < 0.5) & (t.parent[t.line] < 0)]
        assert (over[:, 1] > 1.5).any() and (over[:, 1] < -1.5).any()


def test_lines_are_connected_to_their_parents():
    t = tree(4)
    starts = {line: t.start[t.line == line][0] for line in range(len(t.parent))}
    for line, parent in enumerate(t.parent):
        if parent < 0:
            assert np.hypot(*starts[line]) < 0.62
        else:
            assert np.hypot(*(t.start[t.line == parent] - starts[line]).T).min() < 1e-12


def test_the_same_generator_grows_the_same_tree():
    np.testing.assert_array_equal(tree(5).stop, tree(5).stop)
    assert tree(5).stop.shape != tree(6).stop.shape or (tree(5).stop != tree(6).stop).any()
