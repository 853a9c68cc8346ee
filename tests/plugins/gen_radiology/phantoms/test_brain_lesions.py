"""Lesions lie deep in one hemisphere, do not overlap, and keep to the asked sizes."""

import numpy as np
import pytest

from gen_radiology.phantoms import brain_anatomy as anatomy
from gen_radiology.phantoms.brain_lesions import draw_lesions
from gen_radiology.phantoms.grid import Grid

GRID = Grid.centred((32, 60, 56), (5.0, 3.7, 3.9), 7.0)


@pytest.mark.parametrize("seed", range(5))
def test_lesions_lie_under_the_cortex_of_one_hemisphere(seed):
    head = anatomy.draw_head(np.random.default_rng(seed))
    found = draw_lesions(np.random.default_rng([seed, 1]), head, GRID, 4, (7.0, 26.0))
    for blob in found.blobs:
        at = anatomy.to_canonical(head, blob.centre[None])
        assert found.side * at[0, 2] > 5 + blob.diameter / 2 - 0.2
        assert -anatomy.hull_sdf(anatomy.Place(*at.T))[0][0] > 6.8 + blob.diameter / 2
        assert 7.0 <= blob.diameter <= 26.0


def test_there_are_one_to_as_many_as_asked_and_the_largest_comes_first():
    head = anatomy.draw_head(np.random.default_rng(0))
    counts, sides = set(), set()
    for seed in range(20):
        found = draw_lesions(np.random.default_rng(seed), head, GRID, 3, (6.0, 10.0))
        counts.add(len(found.blobs))
        sides.add(found.side)
        sizes = [b.diameter for b in found.blobs]
        assert sizes == sorted(sizes, reverse=True)
    assert counts == {1, 2, 3} and sides == {-1, 1}


def test_lesions_keep_apart():
    head = anatomy.draw_head(np.random.default_rng(3))
    for seed in range(5):
        blobs = draw_lesions(np.random.default_rng(seed), head, GRID, 6, (8.0, 16.0)).blobs
        for i, a in enumerate(blobs):
            for b in blobs[:i]:
                assert np.linalg.norm(a.centre - b.centre) > 0.39 * (a.diameter + b.diameter)


def test_a_picture_without_deep_white_matter_has_none():
    head = anatomy.draw_head(np.random.default_rng(0))
    neck = Grid.centred((3, 20, 22), (5.0, 9.0, 9.0), -90.0)
    assert draw_lesions(np.random.default_rng(1), head, neck, 3, (7.0, 20.0)) is None
