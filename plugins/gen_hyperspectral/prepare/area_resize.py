"""Exact area averaging: each output pixel is the mean of the source area it covers, at any ratio.

Separable, as products with a banded matrix: output i of n covers the source interval [i m / n, (i + 1) m / n),
and a source pixel counts with the length of its overlap. An axis that grows is interpolated linearly instead
(pixel centres, edges repeated).
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

TILE = 64  # outputs a product: a tile touches few source pixels, so the zeros of the matrix are never multiplied


@frozen(eq=False)
class Axis:
    """The resampling of one axis: output i = sum_k weight[i, k] * source[start[i] + k]."""

    size: int  # of the source
    start: np.ndarray  # (n,) int
    weight: np.ndarray  # (n, K) float32, rows sum to 1

    def __len__(self) -> int:
        return len(self.start)

    def matrix(self, first: int, last: int) -> tuple[int, int, np.ndarray]:
        """Source range and dense float32 matrix (last - first, range) of outputs first..last."""
        begin = int(self.start[first])
        end = int(min(self.start[last - 1] + self.weight.shape[1], self.size))
        dense = np.zeros((last - first, end - begin + self.weight.shape[1]), np.float32)
        rows = np.arange(last - first)[:, None]
        dense[rows, self.start[first:last, None] - begin + np.arange(self.weight.shape[1])] = self.weight[first:last]
        return begin, end, dense[:, : end - begin]


def axis_weights(source: int, target: int) -> Axis:
    """Area weights from `source` to `target` pixels, or linear ones where target > source."""
    if target > source:
        centre = (np.arange(target) + 0.5) * source / target - 0.5
        start = np.clip(np.floor(centre).astype(int), 0, max(source - 2, 0))
        share = np.clip(centre - start, 0.0, 1.0)
        weight = np.stack([1.0 - share, share], axis=1) if source > 1 else np.ones((target, 1))
        return Axis(source, start, weight.astype(np.float32))
    # whole-number arithmetic: edges i * source / target are exact in units of 1 / target
    edges = np.arange(target + 1, dtype=np.int64) * source
    start = edges[:-1] // target
    width = int((-(-edges[1:] // target) - start).max())
    pixel = start[:, None] + np.arange(width)
    low = np.maximum(pixel * target, edges[:-1, None])
    high = np.minimum((pixel + 1) * target, edges[1:, None])
    return Axis(source, start, (np.maximum(high - low, 0) / source).astype(np.float32))


def resize_columns(x: np.ndarray, axis: Axis, out: np.ndarray | None = None) -> np.ndarray:
    """x (..., W) float32 -> (..., w) along the last axis."""
    if out is None:
        out = np.empty((*x.shape[:-1], len(axis)), np.float32)
    for first in range(0, len(axis), TILE):
        last = min(first + TILE, len(axis))
        begin, end, matrix = axis.matrix(first, last)
        np.matmul(x[..., begin:end], matrix.T, out=out[..., first:last])
    return out


def resize_rows(x: np.ndarray, axis: Axis, first: int, last: int, begin: int) -> np.ndarray:
    """Outputs first..last of the rows axis, from x (..., rows, W) float32 that starts at source row `begin`."""
    start, end, matrix = axis.matrix(first, last)
    return np.matmul(matrix, x[..., start - begin : end - begin, :])


def area_resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """x (..., H, W) -> (..., h, w) float32."""
    x = np.asarray(x, np.float32)
    if x.shape[-2:] == tuple(size):
        return x.copy()
    rows, columns = axis_weights(x.shape[-2], size[0]), axis_weights(x.shape[-1], size[1])
    out = np.empty((*x.shape[:-2], *size), np.float32)
    for first in range(0, size[0], TILE):
        last = min(first + TILE, size[0])
        out[..., first:last, :] = resize_columns(resize_rows(x, rows, first, last, 0), columns)
    return out


def resize_valid(volume: np.ndarray, valid: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Area-resized values and valid pixels: invalid ones do not enter the mean."""
    if valid.all():
        return area_resize(volume, size), np.ones(size, bool)
    cover = area_resize(valid.astype(np.float32), size)
    total = area_resize(np.where(valid, volume, 0.0), size)
    return total / np.maximum(cover, 1e-6), cover >= 0.5
