"""Physical nodules of LIDC-IDRI: the outlines of several readers put together, their consensus, their ratings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from attrs import Factory, define, frozen

from gen_core.errors import DataError, RecipeError
from gen_radiology.image import Image, MaskSet
from gen_radiology.lidc_outlines import OUTLINES, Patch, longest_axis, outline_slices
from gen_radiology.lidc_xml import Contour, Outlined, Readings

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


def nodule_masks(
    nodules: list[Nodule],
    image: Image,
    level: float = 0.5,
    outline: str = "exclude",
    by: str = "all",
    reader: int | None = None,
) -> MaskSet:
    """Draw nodules on the CT that was read: voxels that at least `level` of all readers put into the nodule.

    image: the series in its own pixels, not resampled nor cropped. Outlines find their slice by SOP Instance UID where
    the image has these, else by z within a quarter of a slice; columns and rows are taken as they stand.
    by: "all" -> one mask `nodule`; "nodule" -> `nodule-1`, ...; "class" -> `solid`, `part-solid`, `ground-glass`.
    reader: only what this reader drew, whatever the level.

    Returns masks with notes on every outline left out; meta["nodules"] tells voxels, centre (z, y, x), votes, ratings.
    Raises: RecipeError for an unknown choice; DataError where the image is no stack of axial slices.
    """
    for key, value, known in (("outline", outline, OUTLINES), ("by", by, ("all", "nodule", "class"))):
        if value not in known:
            raise RecipeError(f"{key} is '{value}', expected one of {', '.join(known)}")
    place, found = _Placing(image), MaskSet()
    names = {"all": ["nodule"], "nodule": [n.name for n in nodules], "class": [*KINDS]}[by]
    found.masks = {name: np.zeros(image.array.shape, bool) for name in names}
    found.meta = {"level": level, "outline": outline, "nodules": {}}
    for nodule in nodules:
        votes: dict[int, np.ndarray] = {}
        place.missing, place.outside, total = [], 0, 0
        for who, drawn in nodule.outlines.items():
            if reader in (None, who):
                total += sum(len(d.contours) for d in drawn)
                for k, patch in outline_slices(drawn, place.locate, outline).items():
                    plane = votes.setdefault(k, np.zeros(image.array.shape[1:], np.uint8))
                    place.add(plane, patch)
        if place.missing:
            zs = sorted(place.missing)
            found.notes.append(
                f"{nodule.name}: {len(zs)} of {total} outlines (z {zs[0]:g} to {zs[-1]:g} mm) lie on slices that are "
                f"not in {image.id}"
            )
        if place.outside:
            found.notes.append(f"{nodule.name}: {place.outside} pixels lie outside of the slices of {image.id}")
        needed = nodule.votes_needed(level) if reader is None else 1
        name = {"all": "nodule", "nodule": nodule.name, "class": nodule.kind}[by]
        if name not in found.masks:
            found.notes.append(f"{nodule.name}: no reader rated its texture, so it belongs to no class")
            continue
        told = _draw(found.masks[name], {k: plane >= needed for k, plane in votes.items()}, place)
        if not told["voxels"] and votes:
            found.notes.append(
                f"{nodule.name}: no voxel has {needed} of {nodule.readers} votes (drawn by {len(nodule.outlines)})"
            )
        found.meta["nodules"][nodule.name] = {
            **told,
            "readers": [who + 1 for who in nodule.outlines],
            "votes_needed": needed,
            "class": nodule.kind,
            "diameter_mm": nodule.diameter_mm,
            "ratings": {
                key: {"value": r.value, "votes": r.votes, "of": len(r.given)} for key, r in nodule.ratings.items()
            },
        }
    found.notes += place.notes()
    return found


def _draw(mask: np.ndarray, planes: dict[int, np.ndarray], place: _Placing) -> dict[str, Any]:
    """Put planes into a mask; voxels and their centre in the indices of the mask."""
    voxels, centre = 0, np.zeros(3)
    for k, plane in planes.items():
        plane = plane[place.rows, place.columns]
        mask[k] |= plane
        y, x = np.nonzero(plane)
        voxels += len(y)
        centre += (k * len(y), y.sum(), x.sum())
    return {"voxels": voxels, "centre_zyx": (centre / voxels).tolist() if voxels else None}


class _Placing:
    """Where contours go on one image, and what did not find its place."""

    def __init__(self, image: Image):
        if abs(image.directions[2, 0]) < 0.8:  # a gantry tilts by 30 degrees at most
            raise DataError(f"{image.id}: not a stack of axial slices; LIDC outlines are drawn on those")
        self.image, self.by_uid = image, {uid: k for k, uid in enumerate(image.slice_uids)}
        self.z = image.affine[2, 3] + image.affine[2, 0] * np.arange(image.array.shape[0])
        self.missing: list[float] = []
        self.outside = self.moved = 0
        # without UIDs the image came another way than by DICOM, and its rows or columns may run backwards
        backwards = [not image.slice_uids and image.directions[2 - axis, axis] < 0 for axis in (1, 2)]
        self.rows, self.columns = (slice(None, None, -1) if b else slice(None) for b in backwards)

    def locate(self, contour: Contour) -> int | None:
        """The slice of a contour, or None."""
        off = np.abs(self.z - contour.z)
        near = int(off.argmin())
        by_z = near if off[near] <= abs(self.image.affine[2, 0]) / 4 else None
        at = self.by_uid.get(contour.sop_uid, by_z)
        self.moved += at is not None and at != by_z
        if at is None:
            self.missing.append(contour.z)
        return at

    def add(self, plane: np.ndarray, patch: Patch) -> None:
        """Count one reader's vote; the patch starts at column and row 0 or later, and may end beyond the plane."""
        part = patch.inside[: max(0, plane.shape[0] - patch.top), : max(0, plane.shape[1] - patch.left)]
        plane[patch.top : patch.top + part.shape[0], patch.left : patch.left + part.shape[1]] += part
        self.outside += int(patch.inside.sum()) - int(part.sum())

    def notes(self) -> list[str]:
        found = []
        if self.moved:
            found.append(
                f"{self.moved} outlines name a slice of {self.image.id} at another z; placed by SOP Instance UID"
            )
        turned = [name for name, s in (("rows", self.rows), ("columns", self.columns)) if s.step]
        if turned:
            found.append(
                f"{self.image.id}: {' and '.join(turned)} run backwards and bear no UIDs; outlines are mirrored"
            )
        return found


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
