"""Arrays with a place of their own put on an image's grid: voxel on voxel where they fit, else the nearest."""

from __future__ import annotations

import math

import numpy as np
from attrs import define

from gen_radiology.volumes.image import Image

GRID_TOLERANCE = 0.1  # voxels by which two grids may differ at their corners and still be one


@define(eq=False)
class Window:
    """Where an array lies on an image's grid. order: its axis along each of the image's; flips; low: first voxel."""

    order: tuple[int, ...]
    flips: tuple[int, ...]
    low: np.ndarray

    def put(self, array: np.ndarray, out: np.ndarray) -> tuple[int, int]:
        """Write the non-zero voxels into `out`; how many were written, and how many fall outside."""
        moved = np.flip(array.transpose(self.order), self.flips)
        first, last = np.maximum(self.low, 0), np.minimum(self.low + moved.shape, out.shape)
        total, kept = int(np.count_nonzero(moved)), 0
        if (last > first).all():
            part = moved[tuple(slice(a - o, b - o) for a, b, o in zip(first, last, self.low))]
            there = out[tuple(slice(a, b) for a, b in zip(first, last))]
            np.copyto(there, part, where=part != 0)
            kept = int(np.count_nonzero(part))
        return kept, total - kept


def find_window(shape: tuple[int, ...], affine: np.ndarray, image: Image) -> Window | None:
    """Where an array (z, y, x) of `shape` lies on an image's grid; None when its voxels lie between the image's.

    affine: its voxel (z, y, x) to LPS mm. Axes may be permuted or reversed, and the array smaller, larger or shifted
    by whole voxels; no voxel may be more than a tenth of a voxel off. An axis of one voxel has no spacing of its own.
    """
    size = np.array(shape)
    to_image = np.linalg.inv(image.affine) @ affine
    steps, start = to_image[:3, :3], to_image[:3, 3]
    target = {a: int(np.abs(steps[:, a]).argmax()) for a in range(3) if size[a] > 1}
    free = [d for d in range(3) if d not in target.values()]
    if len(set(target.values())) < len(target):
        return None
    whole = np.zeros((3, 3))
    for a, d in target.items():
        whole[d, a] = math.copysign(1.0, steps[d, a])
    error = np.abs(steps - whole) @ (size - 1) + np.abs(start - np.rint(start))
    if not (error <= GRID_TOLERANCE).all():
        return None
    for a in range(3):
        if a not in target:
            target[a] = free.pop(0)
    order = tuple(sorted(target, key=target.__getitem__))
    flips = tuple(d for d, a in enumerate(order) if whole[d, a] < 0)
    low = np.rint(start).astype(int)
    for d in flips:
        low[d] -= size[order[d]] - 1
    return Window(order, flips, low)


def resample_nearest(array: np.ndarray, affine: np.ndarray, image: Image) -> np.ndarray:
    """The value of the nearest voxel of an array (z, y, x) at each voxel centre of an image; 0 outside."""
    from scipy.ndimage import affine_transform

    back = np.linalg.inv(affine) @ image.affine
    values = array.astype(np.uint8) if array.dtype == bool else array
    out = affine_transform(values, back[:3, :3], back[:3, 3], image.array.shape, order=0, mode="grid-constant")
    return out.astype(array.dtype)


def grid_difference(array: np.ndarray, affine: np.ndarray, image: Image) -> str:
    """Sizes, spacings and first voxels of two grids, for a message."""
    told = []
    for shape, matrix in ((array.shape, affine), (image.array.shape, image.affine)):
        spacing = ", ".join(f"{s:.4g}" for s in np.linalg.norm(matrix[:3, :3], axis=0))
        corner = ", ".join(f"{v:.2f}" for v in matrix[:3, 3])
        told.append(f"{'x'.join(map(str, shape))} of {spacing} mm from {corner}")
    return " against ".join(told)
