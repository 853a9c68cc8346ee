"""Lesions of white matter: one to a few, all in one hemisphere, so that they break the symmetry of the brain."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_radiology.phantoms.blob import Blob
from gen_radiology.phantoms.brain_anatomy import Head, Place, hull_sdf, to_picture, ventricles
from gen_radiology.phantoms.grid import Grid, Points

_TRIES = 4000
# Where white matter is deep: z, y and |x| in canonical mm.
_LOW, _HIGH = np.array([4.0, -46.0, 16.0]), np.array([46.0, 52.0, 48.0])


@frozen(eq=False)
class Lesions:
    """side: -1 the patient's right, +1 the left. blobs: in picture mm."""

    side: int
    blobs: tuple[Blob, ...]


def draw_lesions(
    rng: np.random.Generator, head: Head, grid: Grid, most: int, diameters: tuple[float, float]
) -> Lesions | None:
    """Lesions within the grid, the first one the largest; None when the grid holds no place for any."""
    side = 1 if rng.random() < 0.5 else -1
    count = int(rng.integers(1, most + 1))
    low, high = diameters
    sizes = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), count)))[::-1]
    canonical = rng.uniform(_LOW, _HIGH, (_TRIES, 3)) * (1.0, 1.0, side)
    points = to_picture(head, canonical)
    start = np.array(grid.origin) - 0.5 * np.array(grid.spacing)
    inside = ((points > start) & (points < start + np.array(grid.size) * grid.spacing)).all(1)
    points, canonical = points[inside], canonical[inside]
    depth = -hull_sdf(Place(*canonical.T))[0]
    wall = _to_ventricle(head, canonical)
    middle = np.abs(canonical[:, 2])
    blobs: list[Blob] = []
    for diameter in sizes:
        r = diameter / 2
        fits = (depth > 7.0 + r) & (wall > 0.7 * r) & (middle > 5.0 + r)
        for other in blobs:
            fits &= np.sqrt(((points - other.centre) ** 2).sum(1)) > 0.8 * (r + other.diameter / 2)
        if fits.any():
            blobs.append(Blob.draw(rng, points[int(np.argmax(fits))], float(diameter)))
    return Lesions(side, tuple(blobs)) if blobs else None


def _to_ventricle(head: Head, points: Points) -> NDArray[np.float64]:
    """Distance to the wall of the ventricles, canonical mm."""
    tubes = ventricles(head)
    nearest = np.full(len(points), np.inf)
    for a, b, r in zip(tubes.start, tubes.stop, np.maximum(tubes.r0, tubes.r1)):
        t = np.clip((points - a) @ (b - a) / ((b - a) ** 2).sum(), 0, 1)
        nearest = np.minimum(nearest, np.sqrt(((points - a - t[:, None] * (b - a)) ** 2).sum(1)) - r)
    return nearest
