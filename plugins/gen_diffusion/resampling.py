"""Halving and doubling without weights: averages and repeats, or a smoothing [1, 3, 3, 1] kernel, along chosen axes.

Shape legend: h (B, D, H, W, C). Odd sizes are halved rounding up, and doubled to any size asked for.
Sources: Brock et al. 2019 (BigGAN: averages and repeats); Zhang 2019, Karras et al. 2020 (StyleGAN2: the kernel).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_diffusion.convolution3d import Axes, repeat_to


def _even(h: Tensor, axis: int) -> Tensor:
    """h with its last voxel along `axis` once more where their number is odd."""
    n = h.shape[axis]
    return torch.cat((h, h.narrow(axis, n - 1, 1)), axis) if n % 2 else h


def _shifted(h: Tensor, axis: int, by: int) -> Tensor:
    """h moved by one voxel along `axis` (1: towards higher indices), zero where nothing was."""
    n = h.shape[axis]
    edge = torch.zeros_like(h.narrow(axis, 0, 1))
    parts = (edge, h.narrow(axis, 0, n - 1)) if by > 0 else (h.narrow(axis, 1, n - 1), edge)
    return torch.cat(parts, axis)


def halve(h: Tensor, axes: Axes, fir: bool) -> Tensor:
    """h with every axis of `axes` that is 2 halved, rounding up.

    fir: each voxel is (x_-1 + 3 x_0 + 3 x_1 + x_2) / 8, zero beyond the edge; else the average of two. The last
    voxel of an odd axis counts twice.
    """
    for axis, factor in zip((1, 2, 3), axes):
        if factor == 1:
            continue
        first, second = _even(h, axis).unflatten(axis, (-1, 2)).unbind(axis + 1)
        if fir:
            h = (3.0 * (first + second) + _shifted(second, axis, 1) + _shifted(first, axis, -1)) / 8.0
        else:
            h = (first + second) / 2.0
    return h


def double(h: Tensor, size: Axes, fir: bool) -> Tensor:
    """h with every axis doubled that is not yet as long as `size`, cut to it: the way back of `halve`.

    fir: voxels at a quarter and three quarters, interpolated linearly, zero beyond the edge; else each voxel twice.
    """
    if not fir:
        return repeat_to(h, size)
    for axis, n in zip((1, 2, 3), size):
        if h.shape[axis] == n:
            continue
        left, right = _shifted(h, axis, 1) + 3.0 * h, 3.0 * h + _shifted(h, axis, -1)
        h = torch.stack((left, right), axis + 1).flatten(axis, axis + 1).narrow(axis, 0, n) / 4.0
    return h
