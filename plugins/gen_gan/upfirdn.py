"""Up-sample, filter, down-sample with short separable filters, differentiable any number of times.

Everything is slices, products with Python numbers, and sums: torch knows their derivatives of every order, on any
device and in any dtype, and one tap after the other is as quick on the CPU as a convolution of one channel each.
Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", appendix B; the operation is that
of scipy.signal.upfirdn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1 / 8, 3 / 8, 3 / 8, 1 / 8)  # enlarging with it is bilinear interpolation, pixel centres kept

Pads = tuple[int, int]


def upfirdn_axis(
    x: Tensor, taps: Sequence[float], axis: int, up: int = 1, down: int = 1, pads: Pads = (0, 0)
) -> Tensor:
    """One axis: `up` - 1 zeros behind every value, padded or cropped, convolved with `taps`, each `down`-th kept.

    n values -> (n * up + sum(pads) - len(taps)) // down + 1.
    """
    x = x.movedim(axis, -1)
    if up > 1:
        x = F.pad(x[..., None], (0, up - 1)).flatten(-2)
    if pads != (0, 0):
        x = F.pad(x, pads)  # negative numbers crop
    n = (x.shape[-1] - len(taps)) // down + 1
    y = None
    for k, tap in enumerate(reversed(taps)):  # convolution: the last tap meets the first value
        if tap:
            part = x[..., k : k + (n - 1) * down + 1 : down] * tap
            y = part if y is None else y + part
    assert y is not None, "a filter of zeros"
    return y.movedim(-1, axis)


def upfirdn2d(
    x: Tensor, taps: Sequence[float], up: int = 1, down: int = 1, pads: Pads = (0, 0), gain: float = 1.0
) -> Tensor:
    """Both image axes of x (B, C, H, W) with the filter taps x taps; the same pads before and behind H and W."""
    scaled = [tap * gain**0.5 for tap in taps]
    return upfirdn_axis(upfirdn_axis(x, scaled, -2, up, down, pads), scaled, -1, up, down, pads)


def upsample2d(x: Tensor, taps: Sequence[float] = BINOMIAL) -> Tensor:
    """(B, C, H, W) -> (B, C, 2 H, 2 W), filtered, brightness kept."""
    k = len(taps)
    return upfirdn2d(x, taps, up=2, pads=((k + 1) // 2, (k - 2) // 2), gain=4.0)


def downsample2d(x: Tensor, taps: Sequence[float] = BINOMIAL) -> Tensor:
    """(B, C, 2 H, 2 W) -> (B, C, H, W), filtered, brightness kept."""
    k = len(taps)
    return upfirdn2d(x, taps, down=2, pads=((k - 1) // 2, (k - 2) // 2))


def reflected(index: Tensor, n: int) -> Tensor:
    """Integer positions on an endless line -> 0..n-1, mirrored at the outer values, which are not repeated."""
    if n == 1:
        return torch.zeros_like(index)
    period = 2 * (n - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def reflect_pad(x: Tensor, pads: Pads, axis: int) -> Tensor:
    """Mirror one axis at its ends, however far `pads` reach."""
    at = torch.arange(-pads[0], x.shape[axis] + pads[1], device=x.device)
    return x.index_select(axis, reflected(at, x.shape[axis]))
