"""SSIM and MS-SSIM in two and three dimensions, safe for thin axes.

Source: Wang et al. 2004 (SSIM, eq. 13 with C3 = C2 / 2); Wang, Simoncelli & Bovik 2003 (MS-SSIM, eq. 7, 5 weights).
The window is a Gaussian without padding ("valid"). Where we depart from the papers: on an axis shorter than the
window it is cut to the axis and renormalized; an axis of length 1 is neither blurred nor pooled; scales stop before
H or W falls under 4, and the weights left are renormalized; negative contrast terms count as 0.

Speed: blurring is a product with a small banded matrix along each axis, and four maps (x + y, x - y and their
squares) give all five moments: x y = ((x + y)^2 - (x - y)^2) / 4.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
K1, K2 = 0.01, 0.03
_BLOCK = 64  # outputs of one banded product on longer axes


@lru_cache(maxsize=64)
def _band(n: int, window: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n - w + 1, n): row i holds the Gaussian window at i; w = min(window, n)."""
    w = min(window, n)
    at = torch.arange(w, dtype=torch.float64) - (w - 1) / 2
    taps = torch.exp(-0.5 * (at / sigma) ** 2)
    taps = taps / taps.sum()
    band = torch.zeros(n - w + 1, n, dtype=torch.float64)
    for i in range(n - w + 1):
        band[i, i : i + w] = taps
    return band.to(device, dtype)


def _blur_last(x: Tensor, window: int, sigma: float) -> Tensor:
    """Blur along the last axis: one banded product, in blocks on long axes."""
    n, w = x.shape[-1], min(window, x.shape[-1])
    if n == 1:
        return x
    if n <= 2 * _BLOCK:
        return x @ _band(n, window, sigma, x.dtype, x.device).T
    parts = []
    for start in range(0, n - w + 1, _BLOCK):
        stop = min(start + _BLOCK, n - w + 1)
        piece = x[..., start : stop + w - 1]
        parts.append(piece @ _band(piece.shape[-1], window, sigma, x.dtype, x.device).T)
    return torch.cat(parts, -1)


def _blur_rows(x: Tensor, window: int, sigma: float) -> Tensor:
    """Blur along the last axis but one."""
    n, w = x.shape[-2], min(window, x.shape[-2])
    if n == 1:
        return x
    if n <= 2 * _BLOCK:
        return _band(n, window, sigma, x.dtype, x.device) @ x
    parts = []
    for start in range(0, n - w + 1, _BLOCK):
        stop = min(start + _BLOCK, n - w + 1)
        piece = x[..., start : stop + w - 1, :]
        parts.append(_band(piece.shape[-2], window, sigma, x.dtype, x.device) @ piece)
    return torch.cat(parts, -2)


def blur(x: Tensor, window: int = 11, sigma: float = 1.5, dims: int = 3) -> Tensor:
    """Gaussian blur of the last `dims` axes (2 or 3) without padding; each axis shrinks by min(window, n) - 1."""
    if dims == 3 and x.shape[-3] > 1:  # depth first: it shrinks most, so the planes that follow are fewer
        flat = x.reshape(*x.shape[:-2], -1)
        x = _blur_rows(flat, window, sigma).unflatten(-1, x.shape[-2:])
    return _blur_last(_blur_rows(x, window, sigma), window, sigma)


def _four_maps(x: Tensor, y: Tensor) -> Tensor:
    """x + y, x - y and their squares, stacked; written in place, because a copy costs as much as the blur."""
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
        return torch.stack((x + y, x - y, (x + y).square(), (x - y).square()))
    maps = torch.empty((4, *x.shape), dtype=x.dtype, device=x.device)
    torch.add(x, y, out=maps[0])
    torch.sub(x, y, out=maps[1])
    torch.mul(maps[:2], maps[:2], out=maps[2:])
    return maps


def ssim_terms(x: Tensor, y: Tensor, data_range: float, window: int, sigma: float, dims: int) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term over positions: (...) without the last `dims` axes."""
    mp, mm, pp, mm2 = blur(_four_maps(x, y), window, sigma, dims)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mp2, mmm2 = mp * mp, mm * mm
    vp, vm = pp - mp2, mm2 - mmm2
    cs = ((vp - vm) * 0.5 + c2) / ((vp + vm) * 0.5 + c2)
    luminance = ((mp2 - mmm2) * 0.5 + c1) / ((mp2 + mmm2) * 0.5 + c1)
    axes = tuple(range(-dims, 0))
    return (luminance * cs).mean(axes), cs.mean(axes)


def ssim(x: Tensor, y: Tensor, data_range: float = 2.0, window: int = 11, sigma: float = 1.5, dims: int = 2) -> Tensor:
    """Mean SSIM of each leading index; x, y (..., [D,] H, W) of one shape."""
    return ssim_terms(x, y, data_range, window, sigma, dims)[0]


def scale_count(h: int, w: int, most: int = 5) -> int:
    """Scales that fit: the first, then one more while both axes stay at least 4 after halving."""
    count, side = 1, min(h, w)
    while count < most and side // 2 >= 4:
        side //= 2
        count += 1
    return count


def _halve(x: Tensor, dims: int) -> Tensor:
    """Mean over 2 x 2 (x 2) voxels; axes of length 1 stay, a last odd voxel is dropped."""
    lead = x.shape[:-dims]
    flat = x.reshape(-1, 1, *x.shape[-dims:])
    kernel = tuple(2 if n > 1 else 1 for n in x.shape[-dims:])
    pooled = (avg_pool3d if dims == 3 else avg_pool2d)(flat, kernel)
    return pooled.reshape(*lead, *pooled.shape[2:])


def ms_ssim(
    x: Tensor,
    y: Tensor,
    data_range: float = 2.0,
    window: int = 11,
    sigma: float = 1.5,
    dims: int = 3,
    scales: int = 5,
) -> Tensor:
    """MS-SSIM of each leading index, in [0, 1]; x, y (..., [D,] H, W) of one shape.

    The last scale gives its SSIM once, each finer scale its contrast term, to the power of its weight.
    """
    count = scale_count(x.shape[-2], x.shape[-1], scales)
    weights = torch.tensor(WEIGHTS[:count], dtype=torch.float64)
    weights = (weights / weights.sum()).tolist()
    value = torch.ones(x.shape[:-dims], dtype=x.dtype, device=x.device)
    for i, weight in enumerate(weights):
        full, cs = ssim_terms(x, y, data_range, window, sigma, dims)
        term = full if i == count - 1 else cs
        value = value * term.clamp(min=0.0) ** weight
        if i < count - 1:
            x, y = _halve(x, dims), _halve(y, dims)
    return value
