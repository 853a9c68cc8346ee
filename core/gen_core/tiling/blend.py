"""Overlapping tiles through a network one by one, blended where they overlap: approximate.

Every tile is normalized by its own statistics, so brightness may drift from tile to tile; that is the price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

Size = tuple[int, int, int]


def starts(n: int, tile: int, overlap: int, step: int) -> list[int]:
    """First voxels of tiles that cover n voxels with at least `overlap` in common, each a multiple of `step`."""
    if tile >= n:
        return [0]
    stride = max(step, (tile - overlap) // step * step)
    found = list(range(0, n - tile, stride))
    return [*found, -(-(n - tile) // step) * step]


def ramp(n: int, overlap: int, first: bool, last: bool, device: torch.device) -> Tensor:
    """Weights (n,) that rise over the overlap at inner borders."""
    up = (torch.arange(n, device=device, dtype=torch.float32) + 0.5) / max(1, overlap)
    one = torch.ones(n, device=device)
    return (one if first else up.clamp(max=1)) * (one if last else up.flip(0).clamp(max=1))


@torch.no_grad()
def run_blended(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    tile: Size,
    overlap: Size,
    step: Sequence[int],
    scale: Sequence[Fraction],
    channels: int,
    size: Size,
) -> Tensor:
    """The output (1, channels, *size) from tiles of x (1, C, D, H, W).

    tile, overlap: voxels of x, multiples of `step`. scale: outputs a voxel of x along each axis.
    """
    total = torch.zeros(1, channels, *size, device=x.device)
    weight = torch.zeros(1, 1, *size, device=x.device)
    axes = [starts(n, t, o, s) for n, t, o, s in zip(x.shape[2:], tile, overlap, step)]
    for d in axes[0]:
        for h in axes[1]:
            for w in axes[2]:
                part = x[(slice(None), slice(None), *(slice(a, a + t) for a, t in zip((d, h, w), tile)))]
                y = network(part).float()
                at = [int(a * s) for a, s in zip((d, h, w), scale)]
                y = y[(slice(None), slice(None), *(slice(0, n - a) for a, n in zip(at, size)))]
                of = (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(at, y.shape[2:])))
                lap = [int(o * s) for o, s in zip(overlap, scale)]
                r = [ramp(n, o, a == 0, a + n >= m, x.device) for n, o, a, m in zip(y.shape[2:], lap, at, size)]
                soft = r[0][:, None, None] * r[1][:, None] * r[2]
                total[of] += y * soft
                weight[of] += soft
    return total / weight
