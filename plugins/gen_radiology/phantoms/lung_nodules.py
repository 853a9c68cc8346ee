"""Nodules: how large, of which kind and shape, and where; their shape as the share of each voxel that they fill.

Diameters are log-normal (median 9 mm before they are cut to the wanted range), defined by volume: a nodule of any
shape fills as much as a ball of its diameter. Kinds as in the Fleischner Society's glossary (Hansell et al. 2008).
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from gen_radiology.phantoms.blob import Blob
from gen_radiology.phantoms.grid import Grid, Volume
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT, Chest, lung_sdf, to_canonical
from gen_radiology.phantoms.tubes import Tubes, cover

KINDS = ("solid", "part-solid", "ground-glass")
MAX_DIAMETER_MM = 30.0
_MEDIAN_MM, _SPREAD = 9.0, 0.55  # of the logarithm
_TRIES = 3000
_LUNGS_MM = np.array([(-165.0, -130.0, -170.0), (125.0, 130.0, 170.0)])  # a box around the lungs of every patient
_GLASS_HU = (-650.0, -480.0)
_SOLID_HU = (15.0, 60.0)


@frozen(eq=False)
class Nodule:
    """One nodule; mm in (z, y, x) of the patient."""

    kind: str
    body: Blob
    pleural: bool
    spikes: NDArray[np.float64]  # (m, 3) directions times length in radii; none when not spiculated
    core: float  # diameter of the solid part as a share of the whole: 1 solid, 0 ground glass
    solid_hu: float
    glass_hu: float

    @property
    def diameter(self) -> float:
        """mm, of the ball of the same volume."""
        return self.body.diameter

    @property
    def centre(self) -> NDArray[np.float64]:
        return self.body.centre


def draw_diameter(rng: np.random.Generator, low: float, high: float) -> float:
    """A log-normal diameter (mm) between low and high, by its quantile function."""
    cut = ndtr((np.log([low, high]) - np.log(_MEDIAN_MM)) / _SPREAD)
    u = float(np.clip(rng.uniform(*cut), 1e-12, 1 - 1e-12))
    return float(np.clip(np.exp(np.log(_MEDIAN_MM) + _SPREAD * ndtri(u)), low, high))


def draw_nodule(
    rng: np.random.Generator, chest: Chest, grid: Grid, kinds: tuple[str, ...], low: float, pleural_share: float
) -> Nodule | None:
    """A nodule of at least `low` mm in the lungs within the grid; None when there is no room for one."""
    kind = kinds[int(rng.integers(len(kinds)))]
    diameter = draw_diameter(rng, min(low, MAX_DIAMETER_MM), MAX_DIAMETER_MM)
    pleural = bool(rng.random() < pleural_share)
    found = _find_place(rng, chest, grid, diameter / 2, pleural)
    if found is None:
        return None
    centre, depth = found
    diameter = min(diameter, depth / 0.375)  # where the lung is too narrow for it
    if diameter < low:
        return None
    spiculated = kind != "ground-glass" and bool(rng.random() < 0.35)
    spikes = rng.normal(size=(int(rng.integers(9, 18)) if spiculated else 0, 3))
    spikes /= np.linalg.norm(spikes, axis=1, keepdims=True)
    core = {"solid": 1.0, "part-solid": float(rng.uniform(0.45, 0.65)), "ground-glass": 0.0}[kind]
    return Nodule(
        kind=kind,
        body=Blob.draw(rng, centre, diameter),
        pleural=depth < 0.5 * diameter,
        spikes=spikes * rng.uniform(1.4, 2.1, (len(spikes), 1)),
        core=core,
        solid_hu=float(rng.uniform(*_SOLID_HU)),
        glass_hu=float(rng.uniform(*_GLASS_HU)),
    )


def _find_place(
    rng: np.random.Generator, chest: Chest, grid: Grid, radius: float, pleural: bool
) -> tuple[NDArray[np.float64], float] | None:
    """(centre in patient mm, its depth): well inside the lung, or so deep under the pleura that the nodule touches it.

    Where there is no such place, the deepest one; None without any lung.
    """
    start = np.array(grid.origin) - 0.5 * np.array(grid.spacing)
    stop = start + np.array(grid.size) * np.array(grid.spacing)
    low, high = np.maximum(start, _LUNGS_MM[0]), np.minimum(stop, _LUNGS_MM[1])
    if (high <= low).any():
        return None
    points = rng.uniform(low, high, (_TRIES, 3))
    at = to_canonical(chest, points).T
    depth = -np.minimum(lung_sdf(chest, *at, RIGHT), lung_sdf(chest, *at, LEFT)) * min(chest.scale)
    # Whole in the picture; across few slices its middle is.
    edge = np.minimum(points - start, stop - points) - np.minimum(radius, 0.3 * (stop - start))
    depth = np.where((edge > 0).all(1), depth, -1.0)
    fits = np.abs(depth - 0.85 * radius) < 0.1 * radius if pleural else depth > 1.25 * radius + 2.0
    if fits.any():
        best = int(np.argmax(fits))
    else:
        best = int(np.argmax(depth))
    return (points[best], float(depth[best])) if depth[best] > 0 else None


def nodule_cover(nodule: Nodule, grid: Grid) -> tuple[tuple[slice, slice, slice], Volume, Volume, Volume]:
    """(box, whole, core, spikes): shares of each voxel of the box in the body, its solid part and its spikes."""
    box = grid.box(nodule.centre, 1.1 * nodule.diameter + 1.5 * max(grid.spacing))
    part = grid.part(box)
    whole = nodule.body.cover(part)
    core = nodule.body.cover(part, nodule.core) if nodule.core > 0 else np.zeros_like(whole)
    r = nodule.diameter / 2
    n = len(nodule.spikes)
    root = np.broadcast_to(nodule.centre, (n, 3))
    spikes = Tubes(root, root + nodule.spikes * r, np.full(n, 0.22 * r), np.full(n, 0.05 * r))
    return box, whole, core, cover(part, spikes)
