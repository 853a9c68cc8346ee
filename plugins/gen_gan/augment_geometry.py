"""Random motions of images: flips, quarter turns, shifts, scaling and rotation, as one resampling.

The images are enlarged twice by an orthonormal wavelet's low-pass filter, read at the moved positions (linearly,
mirrored beyond the edges), and brought back by the same filter reversed, so that nothing folds over and no motion is
no change. Reading is `gather`: its derivative and the derivative of that are known to any torch, which cannot be said
of `grid_sample`.
Source: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_core.share import rows
from gen_gan.upfirdn import reflect_pad, upfirdn_axis

# Low-pass filter of the symlet with six vanishing moments (Daubechies 1992, table 6.3), sum sqrt(2).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
TAPS = len(SYM6)
CENTRE = sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6)  # of gravity: straight lines come out straight
HALF = math.sqrt(0.5)

SHIFT = 0.125  # of the size: largest whole-pixel shift, and sd of the fractional one
SCALE_SD = 0.2  # of log2 of the factors


class Draws:
    """Random numbers (n,) of one call; `chance` says which samples an operation with probability p befalls."""

    def __init__(self, n: int, p: float, generator: torch.Generator, device: torch.device, dtype: torch.dtype):
        self.n, self.p, self.generator, self.device, self.dtype = n, p, generator, device, dtype

    def uniform(self, *more: int) -> Tensor:
        """In [0, 1)."""
        at = self.generator.device
        draw = lambda n: torch.rand(n, *more, generator=self.generator, device=at)
        return rows(self.n, draw).to(self.device, self.dtype)

    def normal(self, *more: int) -> Tensor:
        at = self.generator.device
        draw = lambda n: torch.randn(n, *more, generator=self.generator, device=at)
        return rows(self.n, draw).to(self.device, self.dtype)

    def chance(self, value: Tensor, neutral: float, p: float | None = None) -> Tensor:
        """`value` (n, ...) for a share p of the samples, `neutral` for the others."""
        hit = self.uniform() < (self.p if p is None else p)
        return torch.where(hit.view(-1, *[1] * (value.ndim - 1)), value, neutral)


# matrices (n, 3, 3) on (x, y, 1) in pixels from the image's centre; y points down


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    full = lambda v: v if isinstance(v, Tensor) else torch.full_like(like, v)
    return torch.stack([torch.stack([full(v) for v in row], -1) for row in rows], -2)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]], x)


def rotation(angle: Tensor) -> Tensor:
    c, s = angle.cos(), angle.sin()
    return _matrix([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], angle)


def translation(x: Tensor, y: Tensor) -> Tensor:
    return _matrix([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]], x)


def blit_matrix(draws: Draws, size: tuple[int, int]) -> Tensor:
    """Pixel blitting: mirrored left to right, quarter turns (half turns where H != W), whole-pixel shifts."""
    h, w = size
    mirror = draws.chance(1.0 - 2.0 * (draws.uniform() * 2.0).floor(), 1.0)
    turns = (draws.uniform() * 4.0).floor() if h == w else 2.0 * (draws.uniform() * 2.0).floor()
    turns = draws.chance(turns, 0.0)
    shift = draws.chance((2.0 * draws.uniform(2) - 1.0) * SHIFT, 0.0)
    still = torch.ones_like(mirror)
    move = translation((shift[:, 0] * w).round(), (shift[:, 1] * h).round())
    return scaling(mirror, still) @ rotation(turns * (math.pi / 2)) @ move


def geometric_matrix(draws: Draws, size: tuple[int, int]) -> Tensor:
    """Scaling, rotation, stretching along one axis, rotation again, fractional shift.

    Each rotation has probability 1 - sqrt(1 - p), so that a share p is rotated at all.
    """
    h, w = size
    p_turn = 1.0 - math.sqrt(1.0 - draws.p)
    angle = lambda: draws.chance((2.0 * draws.uniform() - 1.0) * math.pi, 0.0, p_turn)
    zoom = draws.chance(torch.exp2(SCALE_SD * draws.normal()), 1.0)
    m = scaling(zoom, zoom) @ rotation(angle())
    stretch = draws.chance(torch.exp2(SCALE_SD * draws.normal()), 1.0)
    m = m @ scaling(stretch, 1.0 / stretch) @ rotation(angle())
    shift = draws.chance(SHIFT * draws.normal(2), 0.0)
    return m @ translation(shift[:, 0] * w, shift[:, 1] * h)


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """x (B, C, H, W) -> the same size; a pixel at p shows what was at `matrix` p (B, 3, 3). Linear in x."""
    b, c, h, w = x.shape
    fine = x
    for axis in (-2, -1):
        # value j of the fine image is that of the endless enlarged one at j - 1, pixel (j - 1 - CENTRE) / 2
        half = TAPS // 2
        fine = upfirdn_axis(reflect_pad(fine, (half, half), axis), [tap / HALF for tap in SYM6], axis, up=2)
    columns, rows = (_positions(n, x) for n in (w, h))
    grid_y, grid_x = torch.meshgrid(rows - (h - 1) / 2, columns - (w - 1) / 2, indexing="ij")
    points = torch.stack((grid_x, grid_y, torch.ones_like(grid_x))).flatten(1)  # (3, n)
    moved = matrix[:, :2] @ points
    at_x, at_y = _inside(moved[:, 0] + (w - 1) / 2, w), _inside(moved[:, 1] + (h - 1) / 2, h)
    fine = _read(fine, 2.0 * at_x + CENTRE + 1.0, 2.0 * at_y + CENTRE + 1.0).view(b, c, len(rows), len(columns))
    for axis in (-2, -1):
        fine = upfirdn_axis(fine, [tap * HALF for tap in reversed(SYM6)], axis, down=2)
    return fine


def _positions(n: int, like: Tensor) -> Tensor:
    """Where the fine values lie that n pixels are made of, in pixels."""
    return (torch.arange(2 * n + TAPS - 2, device=like.device, dtype=like.dtype) - CENTRE) / 2


def _inside(at: Tensor, n: int) -> Tensor:
    """Positions in pixels mirrored into the image, but for those the enlarged image holds beyond its edges."""
    if n == 1:
        return torch.zeros_like(at)
    folded = at.remainder(2.0 * (n - 1))
    folded = torch.minimum(folded, 2.0 * (n - 1) - folded)
    slack = 1e-3  # of rounding: no motion is no change at the edges too
    held = (at > -CENTRE / 2 - slack) & (at < n - 1 + (TAPS - 1 - CENTRE) / 2 + slack)
    return torch.where(held, at, folded)


def _read(x: Tensor, at_x: Tensor, at_y: Tensor) -> Tensor:
    """x (B, C, H, W) at positions (B, n), between pixels linearly -> (B, C, n)."""
    b, c, h, w = x.shape
    flat = x.flatten(2)
    x0, y0 = at_x.floor().clamp(0, w - 2), at_y.floor().clamp(0, h - 2)
    u, v = at_x - x0, at_y - y0
    first = (y0 * w + x0).long()
    total = None
    for step, weight in ((0, (1 - u) * (1 - v)), (1, u * (1 - v)), (w, (1 - u) * v), (w + 1, u * v)):
        part = flat.gather(2, (first + step)[:, None].expand(b, c, -1)) * weight[:, None]
        total = part if total is None else total + part
    return total
