"""Polygons of one slice to a mask by the even-odd rule on voxel centres: holes and keyholes stay holes.

A ray from a voxel centre towards smaller x meets an odd number of edges: inside. Edges and rows are half-open: a
centre exactly on an edge belongs to the side of larger x (or y), so a centre on the left or upper edge is inside, one
on the right or lower edge is not, and of two polygons that share an edge exactly one has it.
Source: Foley et al. 1990, Computer Graphics, 3.6 (scan conversion of polygons by edge parity).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SNAP = 1e-6  # voxels: coordinates are rounded to this, so that "on a centre" survives the way from mm


def fill_even_odd(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The mask of all polygons of a slice together: a voxel in an even number of them is outside.

    polygons: (n, 2) float voxel coordinates (y, x), voxel centres at whole numbers; closed from last to first point.
    shape: (rows, columns). Returns: (y, x) bool. Parts beyond the slice are cut off. Raises: ValueError when a
    coordinate is not finite.
    """
    rows, columns = shape
    edges = [edges_of(p) for p in polygons if len(p) > 2]
    mask = np.zeros(shape, bool)
    if not edges:
        return mask
    y0, x0, y1, x1 = np.concatenate(edges, 1)
    if not (np.isfinite(y0).all() and np.isfinite(x0).all()):
        raise ValueError("a contour coordinate is not finite")
    # rows an edge crosses: y0 <= row < y1
    first = np.clip(np.ceil(y0), 0, rows).astype(np.intp)
    count = np.clip(np.ceil(y1), 0, rows).astype(np.intp) - first
    crossing = count > 0
    y0, x0, y1, x1, first, count = (v[crossing] for v in (y0, x0, y1, x1, first, count))
    if not len(count):
        return mask
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    x = x0[edge] + (row - y0[edge]) * ((x1 - x0) / (y1 - y0))[edge]
    column = np.clip(np.ceil(x), 0, columns).astype(np.intp)  # the first centre not left of the crossing
    top, bottom, left, right = row.min(), row.max() + 1, column.min(), column.max()
    if left == right:
        return mask
    size = (bottom - top, right - left + 1)
    crossings = np.bincount((row - top) * size[1] + column - left, minlength=size[0] * size[1]).reshape(size)
    odd = (crossings & 1).astype(bool)
    mask[top:bottom, left:right] = np.logical_xor.accumulate(odd, 1)[:, :-1]
    return mask


def edges_of(polygon: np.ndarray) -> np.ndarray:
    """(4, n): y0, x0, y1, x1 of the closed polygon's edges, each from its upper to its lower end.

    Up to down whatever the direction of travel: an edge that is passed twice crosses a row at the very same x.
    """
    here = np.round(np.asarray(polygon, np.float64) / SNAP) * SNAP
    there = np.roll(here, -1, 0)
    down = (here[:, 0] <= there[:, 0])[:, None]
    return np.concatenate([np.where(down, here, there), np.where(down, there, here)], 1).T
