"""A common field of view: the block about the lungs, turned to head, back and left, on one size for all patients.

Scans start at the chin or the shoulders and end at the diaphragm or the belly, and tables lift one patient higher than
another. The block is centred on the box about both lungs, so that lungs lie on lungs.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_radiology.volumes.image import Image
from gen_radiology.volumes.lungs import Lungs, find_lungs
from gen_radiology.volumes.resample import oriented, oriented_affine, resample, resample_mask, size_grid


@frozen(eq=False)
class LungBox:
    """A block of the image turned to head, back, left: corner and shape in its voxels; may reach beyond the image."""

    corner: tuple[int, int, int]
    shape: tuple[int, int, int]


def lung_box(
    image: Image,
    lungs: Lungs,
    margin_mm: tuple[float, float, float] = (10.0, 20.0, 20.0),
    size_mm: tuple[float, float, float] | None = None,
) -> tuple[LungBox, list[str]]:
    """The block that a common field of view is cut from: centred on the box about both lungs.

    margin_mm: (z, y, x) about the lungs on either side; the block then fits the patient. size_mm: a block of that
    size for every patient instead, so that millimetres stay comparable. Without lungs the body is taken, without a body
    the whole image; the notes say so.
    """
    notes = []
    shape, affine = oriented_affine(image.array.shape, image.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    target = oriented(lungs.both, image.affine)
    if not target.any():
        target = oriented(lungs.body, image.affine)
        notes.append(f"{image.id}: aligned by the {'body' if target.any() else 'whole image'}, as there are no lungs")
    ends = [np.flatnonzero(target.any(axis=tuple(a for a in range(3) if a != k))) for k in range(3)]
    first = np.array([e[0] if len(e) else 0 for e in ends])
    last = np.array([e[-1] if len(e) else n - 1 for e, n in zip(ends, shape)])
    size = (last - first + 1) * spacing + 2 * np.array(margin_mm) if size_mm is None else np.array(size_mm)
    voxels = np.maximum(1, np.rint(size / spacing)).astype(int)
    corner = np.floor((first + last + 1 - voxels) / 2 + 0.5).astype(int)
    if np.any(voxels > 4 * np.array(shape) + 512):
        raise DataError(
            f"{image.id}: a field of view of {np.rint(size).astype(int).tolist()} mm is far beyond the image"
        )
    return LungBox(tuple(corner.tolist()), tuple(voxels.tolist())), notes


def lung_middle(image: Image) -> tuple[np.ndarray | None, list[str]]:
    """The middle of the box about both lungs as a (3,) index of the image's own axes, for a crop that is centred there.

    The middle of the body where there are no lungs, None where there is no body; the notes say so.
    """
    lungs = find_lungs(image)
    for what, mask in (("lungs", lungs.both), ("body", lungs.body)):
        if mask.any():
            ends = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != k)))[[0, -1]] for k in range(3)]
            said = [] if what == "lungs" else [f"{image.id}: centred on the body, as there are no lungs"]
            return np.mean(ends, axis=1), lungs.notes + said
    return None, lungs.notes


def align(image: Image, box: LungBox, size: tuple[int, int, int], air: float = -1000.0) -> Image:
    """The block of a box on `size` (D, H, W) voxels, head first to the back to the left; `air` beyond the image."""
    shape, affine = oriented_affine(image.array.shape, image.affine)
    block = _cut(oriented(image.array, image.affine), box, np.float32(air))
    grid = size_grid(box.shape, size)
    shift = np.eye(4)
    shift[:3, 3] = box.corner
    meta = {**image.meta, "aligned": {"corner": list(box.corner), "shape": list(box.shape), "of": list(shape)}}
    return Image(
        resample(block, grid), affine @ shift @ grid.matrix, image.id, image.subject, image.modality, image.units,
        image.files, (), list(image.warnings), meta,
    )  # fmt: skip


def align_mask(mask: np.ndarray, image: Image, box: LungBox, size: tuple[int, int, int]) -> np.ndarray:
    """A mask on the image's grid, (z, y, x), as `align` moves the image: (D, H, W) bool."""
    return resample_mask(_cut(oriented(mask, image.affine), box, False), size_grid(box.shape, size))


def _cut(array: np.ndarray, box: LungBox, fill: float | bool) -> np.ndarray:
    block = np.full(box.shape, fill, array.dtype)
    inside = [slice(max(0, c), max(0, min(n, c + m))) for c, m, n in zip(box.corner, box.shape, array.shape)]
    there = tuple(slice(s.start - c, max(s.start, s.stop) - c) for s, c in zip(inside, box.corner))
    if all(s.stop > s.start for s in inside):
        block[there] = array[tuple(inside)]
    return block
