"""Nodules drawn on the CT that was read: voxels on which enough readers agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_core.errors import DataError, RecipeError
from gen_radiology.lidc.nodules import KINDS, Nodule
from gen_radiology.lidc.outlines import OUTLINES, Patch, outline_slices
from gen_radiology.lidc.readings import Contour
from gen_radiology.volumes.image import Image, MaskSet


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
