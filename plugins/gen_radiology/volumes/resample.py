"""Volumes on other grids: to a spacing in mm or to a size, separable, with the affine carried along.

Shape legend: (z, y, x) voxels. Along an axis that grows, values are interpolated linearly between voxel centres. Along
one that shrinks, every output voxel is the mean of what it covers, so nothing aliases: of whole voxels where the factor
is a whole number, else of the linear interpolant, which keeps a ramp where it was. Edges are repeated. Voxels without
data (not finite) do not enter a mean.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from attrs import frozen

from gen_core.errors import DataError

BLOCK = 4 << 20  # voxels worked on at once
MOST = 1 << 31  # voxels of a resampled volume: beyond it the spacing is a slip


@frozen(eq=False)
class Axis:
    """One axis: output i = sum_k weight[i, k] * source[index[i, k]]; nearest[i] is the source voxel at its centre."""

    index: np.ndarray  # (n, K) int
    weight: np.ndarray  # (n, K) float32, rows sum to 1
    nearest: np.ndarray  # (n,) int
    same: bool  # output = source


@frozen(eq=False)
class Grid:
    """A target grid on a source: shapes (z, y, x), and `matrix` (4, 4) from target to source index."""

    source: tuple[int, int, int]
    shape: tuple[int, int, int]
    axes: tuple[Axis, Axis, Axis]
    matrix: np.ndarray

    @property
    def same(self) -> bool:
        return all(axis.same for axis in self.axes)


def spacing_shape(
    shape: tuple[int, int, int], spacing: np.ndarray, target: tuple[float, float, float]
) -> tuple[int, int, int]:
    """(z, y, x) of a volume after resampling to `target` mm: the extent, rounded to whole voxels, at least one."""
    # halves go up, however the spacing was rounded in its file
    z, y, x = (max(1, int(n * float(s) / t + 0.5 + 1e-4)) for n, s, t in zip(shape, spacing, target))
    if z * y * x > MOST:
        raise DataError(f"dataset.spacing_mm = {list(target)} makes {z} x {y} x {x} voxels of {shape}: too many")
    return (z, y, x)


def spacing_grid(shape: tuple[int, int, int], spacing: np.ndarray, target: tuple[float, float, float]) -> Grid:
    """The grid of exactly `target` mm about the centre of the field of view."""
    size = spacing_shape(shape, spacing, target)
    steps = [t / float(s) for s, t in zip(spacing, target)]
    return _grid(shape, size, [1.0 if abs(step - 1) < 1e-6 else step for step in steps])


def size_grid(shape: tuple[int, int, int], size: tuple[int, int, int]) -> Grid:
    """The grid of `size` voxels over exactly the field of view."""
    return _grid(shape, size, [n / m for n, m in zip(shape, size)])


def _grid(shape: tuple[int, int, int], size: tuple[int, int, int], steps: list[float]) -> Grid:
    first = [(n - m * step) / 2 for n, m, step in zip(shape, size, steps)]
    z, y, x = (axis_weights(n, m, step, at) for n, m, step, at in zip(shape, size, steps, first))
    matrix = np.diag([*steps, 1.0])
    matrix[:3, 3] = [at + step / 2 - 0.5 for at, step in zip(first, steps)]
    return Grid(tuple(shape), tuple(size), (z, y, x), matrix)


def axis_weights(n: int, m: int, step: float, first: float) -> Axis:
    """Weights of m output voxels of `step` source voxels each; `first`: where they begin, 0 = the edge of voxel 0."""
    same = n == m and step == 1.0 and first == 0.0
    begin = first + np.arange(m) * step
    centre = begin + step / 2 - 0.5
    nearest = np.clip(np.floor(centre + 0.5).astype(np.int64), 0, n - 1)
    if step > 1:
        low, high = np.clip(begin, 0, n), np.clip(begin + step, 0, n)
        whole = step == round(step) and first == round(first)
        index = (np.floor(low).astype(np.int64) - (not whole))[:, None] + np.arange(
            int(np.ceil(step)) + 3 * (not whole)
        )
        covered = _boxes if whole else _tents  # integral of voxel k's basis function up to a point
        weight = covered(high[:, None] - index) - covered(low[:, None] - index)
        weight = weight / weight.sum(axis=1, keepdims=True)
    else:
        inside = np.clip(centre, 0, n - 1)
        start = np.minimum(np.floor(inside).astype(np.int64), max(n - 2, 0))
        index, share = start[:, None] + np.arange(2), inside - start
        weight = np.stack([1 - share, share], axis=1)
    return Axis(np.clip(index, 0, n - 1), weight.astype(np.float32), nearest, same)


def _boxes(u: np.ndarray) -> np.ndarray:
    """The integral up to u of a voxel that is 1 on [0, 1]."""
    return np.clip(u, 0.0, 1.0)


def _tents(u: np.ndarray) -> np.ndarray:
    """The integral up to u of the hat that rises from -1/2 to 1/2 and falls to 3/2: the linear interpolant's basis."""
    u = np.clip(u, -0.5, 1.5)
    return np.where(u < 0.5, (u + 0.5) ** 2 / 2, 1.0 - (1.5 - u) ** 2 / 2)


def resample(volume: np.ndarray, grid: Grid) -> np.ndarray:
    """Physical values (z, y, x) on `grid`, float32; NaN where less than half of a voxel had data."""
    volume = np.asarray(volume, np.float32)
    assert volume.shape == grid.source, "a grid is made for one shape"
    if grid.same:
        return volume.copy()
    valid = np.isfinite(volume)
    if valid.all():
        return _weighted(volume, grid)
    cover = _weighted(valid.astype(np.float32), grid)
    total = _weighted(np.where(valid, volume, np.float32(0)), grid)
    return np.where(cover >= 0.5, total / np.maximum(cover, 1e-6), np.float32(np.nan)).astype(np.float32)


def resample_mask(mask: np.ndarray, grid: Grid, how: str = "volume") -> np.ndarray:
    """A mask on `grid`. how: "volume", where at least half of a voxel is covered; "nearest", as its centre is."""
    if grid.same:
        return mask.copy()
    if how == "nearest":
        return np.ascontiguousarray(mask[np.ix_(*(axis.nearest for axis in grid.axes))])
    return _weighted(mask.astype(np.float32), grid) >= 0.5 - 1e-5  # thirds do not add up to 1/2 in float32


def _weighted(x: np.ndarray, grid: Grid) -> np.ndarray:
    """Axis by axis, the one that shrinks most first: what follows is cheaper."""
    for k in sorted(range(3), key=lambda k: grid.shape[k] / grid.source[k]):
        if not grid.axes[k].same:
            x = _along(x, k, grid.axes[k])
    return x


def _along(x: np.ndarray, k: int, axis: Axis) -> np.ndarray:
    shape = (*x.shape[:k], len(axis.index), *x.shape[k + 1 :])
    out = np.zeros(shape, np.float32)
    if k == 0:
        for i, (index, weight) in enumerate(zip(axis.index, axis.weight)):
            for j, w in zip(index, weight):
                if w:
                    out[i] += w * x[j]
        return out
    step = max(1, BLOCK // max(x[0].size, out[0].size))
    for a in range(0, len(x), step):  # in blocks of slices: no temporary copy of the whole
        for index, weight in zip(axis.index.T, axis.weight.T):
            part = np.take(x[a : a + step], index, axis=k)
            part *= weight.reshape(-1, *[1] * (2 - k))
            out[a : a + step] += part
    return out


def orientation(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """How the axes of a volume must be ordered and turned to run to the head, the back and the left, as far as they do.

    Returns: `order`, which of its axes becomes z, y, x; `turn`, whether that axis is reversed.
    """
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = unit[::-1]  # rows: patient's z, y, x; columns: voxel axes
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosine[k, p[k]]) for k in range(3)))
    return order, tuple(bool(cosine[k, order[k]] < 0) for k in range(3))  # type: ignore[return-value]


def oriented(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A volume or mask (z, y, x) as `orientation(affine)` says: a view."""
    order, turn = orientation(affine)
    return array.transpose(order)[tuple(slice(None, None, -1 if t else 1) for t in turn)]


def oriented_affine(shape: tuple[int, int, int], affine: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine of `oriented`: the same points of the patient."""
    order, turn = orientation(affine)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for new, (old, t) in enumerate(zip(order, turn)):
        matrix[old, new] = -1.0 if t else 1.0
        matrix[old, 3] = shape[old] - 1 if t else 0.0
    z, y, x = (shape[k] for k in order)
    return (z, y, x), affine @ matrix
