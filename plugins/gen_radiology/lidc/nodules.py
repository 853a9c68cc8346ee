"""Physical nodules of LIDC-IDRI: the outlines of several readers put together, and their ratings."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from attrs import Factory, define, frozen

from gen_core.errors import DataError, RecipeError
from gen_radiology.lidc.outlines import longest_axis, outline_slices
from gen_radiology.lidc.readings import Outlined, Readings

KINDS = ("ground-glass", "part-solid", "solid")  # of texture 1-2, 3, 4-5
NOMINAL = ("internalStructure", "calcification")  # their numbers are names, without an order
SAME = 0.25  # share of the smaller outline that two readers have in common when they drew the same nodule
PIECE = 0.5  # share of a second outline of one reader that lies in another reader's when it is a piece of that nodule
TYPICAL_PIXEL_MM = 0.7  # of the collection; only to compare distances where the spacing is not known


@frozen
class Rating:
    """value: the majority's. votes: readers who gave it. given: what each reader who rated gave, in reading order."""

    value: int
    votes: int
    given: tuple[int, ...]


@define(eq=False)
class Nodule:
    """One lesion. outlines: reader -> what this reader drew of it. readers: all readers of the session.

    ratings: name -> Rating. diameter_mm: the longest axis on one slice, median over readers; NaN without a spacing.
    """

    name: str
    outlines: dict[int, tuple[Outlined, ...]]
    readers: int
    ratings: dict[str, Rating] = Factory(dict)
    diameter_mm: float = math.nan

    @property
    def kind(self) -> str:
        """ "solid", "part-solid" or "ground-glass" by majority; "" where no reader rated the texture."""
        texture = self.ratings.get("texture")
        return KINDS[majority([_kind(value) for value in texture.given]).value] if texture else ""

    @property
    def malignancy(self) -> int | None:
        """1 (highly unlikely) .. 5 (highly suspicious) by majority; None where no reader rated it."""
        rating = self.ratings.get("malignancy")
        return rating.value if rating else None

    def votes_needed(self, level: float) -> int:
        """Readers that a voxel needs: that share of ALL readers, so those who drew nothing vote no."""
        if not 0 < level <= 1:
            raise RecipeError(f"level is {level}, expected 0 < level <= 1: the share of all readers")
        return max(1, math.ceil(level * self.readers - 1e-9))


def majority(given: Iterable[int], ordered: bool = True) -> Rating:
    """The value most readers gave. Of equals the one nearest to the mean of all votes, of those the higher.

    ordered = False (values are names): of equals the higher number.
    """
    given = tuple(given)
    mean = sum(given) / len(given)
    best = max(set(given), key=lambda v: (given.count(v), -abs(v - mean) if ordered else 0, v))
    return Rating(best, given.count(best), given)


def find_nodules(readings: Readings, spacing: Iterable[float] | None = None) -> list[Nodule]:
    """Group the outlines of all readers into physical nodules, in the order of the file.

    Two readers drew the same nodule where they share at least a quarter of the smaller outline's pixels, or where the
    centres, but for one slice, are nearer than the larger one's radius (of the ball of its volume). The closest pairs
    join first, and no reader comes twice into a nodule, unless a reader drew in pieces, each at least half inside of
    what another reader drew as one.

    spacing: (z, y, x) mm of the CT; without it diameters are NaN and distances are measured with 0.7 mm pixels.
    Raises: DataError for a reading of chest X-rays.
    """
    if readings.kind != "CT":
        raise DataError(f"{readings.path}: is a {readings.kind} reading, not a CT annotation: it outlines no nodules")
    pixel = TYPICAL_PIXEL_MM if spacing is None else float(np.mean(list(spacing)[1:]))
    outlined = readings.outlined
    step = _slice_step(outlined)
    bodies = [_Body(nodule, step, pixel) for nodule in outlined]
    nodules = []
    for number, group in enumerate(_groups(bodies), 1):
        outlines: dict[int, tuple[Outlined, ...]] = {}
        for body in sorted((bodies[i] for i in group), key=lambda b: -len(b.voxels)):
            drawn = body.outlined
            outlines[drawn.reader] = (*outlines.get(drawn.reader, ()), drawn)  # the largest piece first
        nodule = Nodule(f"nodule-{number}", dict(sorted(outlines.items())), len(readings.readings))
        nodule.ratings = _ratings(nodule)
        if spacing is not None:
            nodule.diameter_mm = float(np.median([longest_axis(drawn, spacing) for drawn in nodule.outlines.values()]))
        nodules.append(nodule)
    return nodules


class _Body:
    """The voxels of one outline, outline included, so that the smallest have some; for comparing readers."""

    def __init__(self, outlined: Outlined, step: float, pixel: float):
        self.outlined, self.step = outlined, step
        patches = outline_slices([outlined], lambda contour: round(contour.z / step), "include")
        where = [np.argwhere(p.inside) + (p.top, p.left) for p in patches.values()]
        zyx = np.concatenate([np.column_stack([np.full(len(w), k), w]) for k, w in zip(patches, where, strict=True)])
        self.voxels = np.unique((zyx[:, 0] << 24) + (zyx[:, 1] << 12) + zyx[:, 2])
        mm = np.array([step, pixel, pixel])
        self.centre = zyx.mean(0) * mm if len(zyx) else np.full(3, 1e9)
        self.radius = (3 * len(zyx) * mm.prod() / (4 * math.pi)) ** (1 / 3)

    def overlap(self, other: _Body) -> float:
        """Share of the smaller one's voxels."""
        shared = np.intersect1d(self.voxels, other.voxels, assume_unique=True)
        return len(shared) / max(1, min(len(self.voxels), len(other.voxels)))

    def likeness(self, other: _Body) -> float:
        """0: not the same nodule; above SAME by overlap, below it by distance of centres."""
        if not len(self.voxels) or not len(other.voxels):  # exclusions alone
            return 0.0
        apart = np.abs(self.centre - other.centre)
        apart[0] = max(0.0, apart[0] - self.step)  # one slice up or down is no difference
        distance = float(np.linalg.norm(apart))
        reach = max(self.radius, other.radius)
        if not distance < 2 * reach + 20:  # far apart, as most pairs are: no need to look at the voxels
            return 0.0
        overlap = self.overlap(other)
        return overlap if overlap >= SAME else SAME * max(0.0, 1 - distance / reach)


def _groups(bodies: list[_Body]) -> list[list[int]]:
    """Indices by nodule: the most alike join first, pieces of one reader last."""
    pairs = [(bodies[i].likeness(bodies[j]), i, j) for i in range(len(bodies)) for j in range(i + 1, len(bodies))]
    group = {i: [i] for i in range(len(bodies))}
    reader = [body.outlined.reader for body in bodies]
    for alike, i, j in sorted(pairs, key=lambda p: (-p[0], p[1:])):
        a, b = group[i], group[j]
        if alike > 0 and a is not b and not {reader[k] for k in a} & {reader[k] for k in b}:
            a += b
            group.update(dict.fromkeys(b, a))
    for i, own in list(group.items()):
        if len(own) > 1:
            continue
        whole = [
            (shared, -j)
            for j in group
            if group[j] is not own and reader[j] != reader[i] and reader[i] in {reader[k] for k in group[j]}
            and len(bodies[j].voxels) >= len(bodies[i].voxels)
            and (shared := bodies[i].overlap(bodies[j])) >= PIECE
        ]  # fmt: skip
        if whole:
            home = group[-max(whole)[1]]
            home.append(i)
            group[i] = home
    return sorted({id(g): sorted(g) for g in group.values()}.values())


def _slice_step(outlined: list[Outlined]) -> float:
    """mm between slices: the smallest gap between positions that were drawn on."""
    z = np.unique([round(contour.z, 2) for nodule in outlined for contour in nodule.contours])
    gaps = np.diff(z)
    return float(gaps[gaps >= 0.1].min(initial=10.0)) if len(gaps) else 2.5


def _ratings(nodule: Nodule) -> dict[str, Rating]:
    """By majority over readers; of a reader's pieces the largest speaks."""
    given: dict[str, list[int]] = {}
    for drawn in nodule.outlines.values():
        for name, value in drawn[0].ratings.items():
            given.setdefault(name, []).append(value)
    return {name: majority(values, name not in NOMINAL) for name, values in given.items()}


def _kind(texture: int) -> int:
    return 0 if texture <= 2 else 1 if texture == 3 else 2
