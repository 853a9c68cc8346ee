"""Tubes: many short cones with round ends, painted together as the share of each voxel that they fill.

Points are (n, 3) in (z, y, x) mm.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_radiology.phantoms.grid import Grid, Points, Volume

_BOXES = np.array([3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 36, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048])
_BLOCK = 1 << 20  # voxels worked on at once


@frozen(eq=False)
class Tubes:
    """Cones from `start` (radius `r0`) to `stop` (radius `r1`)."""

    start: Points
    stop: Points
    r0: NDArray[np.float64]  # (n,) mm
    r1: NDArray[np.float64]

    @classmethod
    def polyline(cls, points: Points, radius: NDArray | float) -> Tubes:
        """One bent tube through `points`; radius a number or one a point."""
        points = np.asarray(points, np.float64)
        r = np.broadcast_to(np.asarray(radius, np.float64), len(points))
        return cls(points[:-1], points[1:], r[:-1], r[1:])

    @classmethod
    def join(cls, tubes: list[Tubes]) -> Tubes:
        return cls(*(np.concatenate([getattr(t, k) for t in tubes]) for k in ("start", "stop", "r0", "r1")))


def cover(grid: Grid, tubes: Tubes, grow: float = 0.0) -> Volume:
    """(D, H, W) in [0, 1]: the share of each voxel inside any of the tubes, whose radii grow by `grow` mm.

    Tubes thinner than a voxel keep their cross section: they are drawn as wide as a voxel, and fainter.
    """
    out = np.zeros(grid.size, np.float32)
    if not len(tubes.start):
        return out
    width, spacing, origin = grid.width, np.array(grid.spacing), np.array(grid.origin)
    r0, r1 = np.maximum(tubes.r0 + grow, 0.0), np.maximum(tubes.r1 + grow, 0.0)
    reach = np.maximum(np.maximum(r0, r1), width / 2) + width / 2
    lo = np.ceil((np.minimum(tubes.start, tubes.stop) - reach[:, None] - origin) / spacing).astype(np.int64)
    hi = np.floor((np.maximum(tubes.start, tubes.stop) + reach[:, None] - origin) / spacing).astype(np.int64)
    lo, hi = np.maximum(lo, 0), np.minimum(hi, np.array(grid.size) - 1)
    box = hi - lo + 1
    keep = np.flatnonzero((box > 0).all(1) & (np.maximum(r0, r1) > 0))
    kind = np.searchsorted(_BOXES, np.minimum(box[keep], _BOXES[-1]))
    for group in np.unique(kind, axis=0):
        members = keep[(kind == group).all(1)]
        shape = tuple(int(b) for b in _BOXES[group])
        step = max(1, _BLOCK // int(np.prod(shape)))
        for k in range(0, len(members), step):
            m = members[k : k + step]
            _stamp(out, grid, shape, lo[m], hi[m], tubes.start[m], tubes.stop[m], r0[m], r1[m])
    return out


def _stamp(
    out: Volume,
    grid: Grid,
    shape: tuple[int, int, int],
    lo: NDArray,
    hi: NDArray,
    start: Points,
    stop: Points,
    r0: NDArray,
    r1: NDArray,
) -> None:
    """Raise `out` to the cover of cones that all fit into boxes of `shape` at `lo`."""
    n, width = len(lo), np.float32(grid.width)
    column = lambda v: np.asarray(v, np.float32).reshape(n, 1, 1, 1)
    inside = np.ones((n, 1, 1, 1), bool)
    index: NDArray = np.zeros((n, 1, 1, 1), np.int64)
    offsets, along = [], np.float32(0)
    direction = stop - start
    length2 = np.maximum((direction**2).sum(1), 1e-9)
    for axis in range(3):
        at = lo[:, axis, None] + np.arange(shape[axis])
        form = [n, 1, 1, 1]
        form[axis + 1] = shape[axis]
        inside = inside & (at <= hi[:, axis, None]).reshape(form)
        index = index * grid.size[axis] + at.reshape(form)
        mm = np.float32(grid.origin[axis] + at * grid.spacing[axis] - start[:, axis, None]).reshape(form)
        offsets.append(mm)
        along = along + mm * column(direction[:, axis] / length2)
    t = np.clip(along, 0, 1)
    d2 = np.float32(0)
    for axis, mm in enumerate(offsets):
        d2 = d2 + (mm - t * column(direction[:, axis])) ** 2
    radius = column(r0) + t * column(r1 - r0)
    drawn = np.maximum(radius, width / 2)
    value = np.clip(0.5 + (drawn - np.sqrt(d2)) / width, 0, 1) * (radius / drawn) ** 2
    np.maximum.at(out.reshape(-1), index[inside], value[inside])
