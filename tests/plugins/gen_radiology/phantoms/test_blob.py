"""Blobs have the volume of a ball of their diameter, whatever their lobes."""

import numpy as np
import pytest

from gen_radiology.phantoms.blob import Blob
from gen_radiology.phantoms.grid import Grid

GRID = Grid.centred((40, 44, 48), (1.0, 0.9, 1.1), 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_lobes_do_not_change_the_volume(seed):
    blob = Blob.draw(np.random.default_rng(seed), [1.3, -2.1, 0.7], 21.0)
    assert blob.heights.max() > 0.08
    volume = blob.cover(GRID).sum() * np.prod(GRID.spacing)
    assert volume == pytest.approx(np.pi / 6 * 21.0**3, rel=0.01)


def test_the_box_holds_all_of_it():
    blob = Blob.draw(np.random.default_rng(7), [1.3, -2.1, 0.7], 17.0, height=0.8)
    box = blob.box(GRID)
    assert blob.cover(GRID.part(box)).sum() == pytest.approx(blob.cover(GRID).sum(), rel=1e-5)
    assert np.prod(GRID.part(box).size) < np.prod(GRID.size)


def test_lobes_make_it_less_round():
    blob = Blob.draw(np.random.default_rng(2), [0.0, 0.0, 0.0], 24.0)
    z, y, x = np.nonzero(np.abs(blob.sdf(GRID)) < 0.5)
    at = np.stack([z, y, x], 1) * GRID.spacing + GRID.origin
    r = np.linalg.norm(at, axis=1)
    assert r.max() - r.min() > 2.5


def test_a_smaller_copy_has_the_same_shape():
    blob = Blob.draw(np.random.default_rng(3), [0.0, 1.0, 2.0], 24.0)
    volumes = [blob.cover(GRID, size).sum() for size in (1.0, 0.5)]
    assert volumes[0] / volumes[1] == pytest.approx(8.0, rel=0.03)
