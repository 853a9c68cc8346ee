"""Maps on a grid of pixels: soft edges, averages over finer pixels, and smooth noise that is the same at any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

_NOISE_MM = 10.0  # half side of the square on which the lattices of smooth noise live


def soft(r: NDArray, edge: float, width: float) -> NDArray:
    """1 inside, 0 outside, a logistic of `width` between."""
    return 1 / (1 + np.exp(np.clip((r - edge) / width, -40, 40)))


def pool(m: NDArray, factor: int) -> NDArray:
    """Average over factor x factor fine pixels of the last two axes."""
    if factor == 1:
        return m
    *lead, rows, cols = m.shape
    m = m.reshape(*lead, rows // factor, factor, cols // factor, factor)
    return 0.25 * (m[..., 0, :, 0] + m[..., 0, :, 1] + m[..., 1, :, 0] + m[..., 1, :, 1])


def smooth_noise(g: np.random.Generator, y: NDArray, x: NDArray, step_y: float, step_x: float) -> Map:
    """Smooth noise of about unit variance at the grid (y, x) in mm: cubic B-splines on a lattice of normal numbers.

    The lattice lies in mm, so that any image samples the same function.
    """
    ny, nx = int(2 * _NOISE_MM / step_y) + 4, int(2 * _NOISE_MM / step_x) + 4
    c = g.standard_normal((ny, nx), dtype=np.float32)
    (iy, wy), (ix, wx) = _spline(y, step_y), _spline(x, step_x)
    rows = sum(wy[k][:, None] * c[iy + k] for k in range(4))
    columns = np.ascontiguousarray(rows.T)
    return np.ascontiguousarray(sum(wx[k][:, None] * columns[ix + k] for k in range(4)).T) / np.float32(0.479)


def _spline(t: NDArray, step: float) -> tuple[NDArray[np.int64], Map]:
    """First lattice index (n,) and weights (4, n) of the cubic B-spline at t."""
    u = (np.clip(t, -_NOISE_MM, _NOISE_MM) + _NOISE_MM) / step
    i = u.astype(int)
    f = u - i
    w = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    return i, w.astype(np.float32)
