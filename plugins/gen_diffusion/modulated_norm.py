"""GroupNorm, scale, shift and SiLU as one operation on channels-last data, with its own gradient.

Shape legend: x (B, N, C), N all positions of a sample (D H W); gain, shift (B, C).
Written one after the other these cost eleven passes over the data forth and back on a CPU, and the library's
GroupNorm is slow there in channels-last memory; here it is five and seven, and one tensor is kept, not four.
Source: Wu & He 2018 (group normalization); the modulation is that of Nichol & Dhariwal 2021, eq. 4.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-5


def _group_mean(sums: Tensor, groups: int, count: int) -> Tensor:
    """Sums a channel (B, C) to the mean of its group (B, 1, C), which holds `count` values."""
    B, C = sums.shape
    mean = sums.view(B, groups, -1).sum(2, keepdim=True) / count
    return mean.expand(B, groups, C // groups).reshape(B, 1, C)


class _ModulatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
        ctx.groups, ctx.dtype, ctx.silu = groups, x.dtype, silu
        ctx.count = x.shape[1] * x.shape[2] // groups
        # Two passes, in float32: E[x^2] - mean^2 loses its digits where the mean is large.
        x = x.float()
        y = x - _group_mean(x.sum(1), groups, ctx.count)
        rstd = torch.rsqrt(_group_mean((y * y).sum(1), groups, ctx.count) + eps)
        ctx.save_for_backward(y, rstd, gain, shift)
        u = torch.addcmul(shift[:, None], y, rstd * gain[:, None])
        return (F.silu(u, inplace=True) if silu else u).to(ctx.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        y, rstd, gain, shift = ctx.saved_tensors
        a = rstd * gain[:, None]
        if ctx.silu:
            u = torch.addcmul(shift[:, None], y, a)
            du = torch.ops.aten.silu_backward(grad.float(), u)
        else:
            u, du = torch.empty_like(y), grad.float()
        d_shift = du.sum(1)
        d_gain = torch.mul(du, y, out=u).sum(1) * rstd[:, 0]  # u is not needed any more
        # dx = a du - rstd (mean(gain du) + y rstd mean(gain du y rstd)), the means over a group and all positions
        mean = _group_mean(gain * d_shift, ctx.groups, ctx.count)
        slope = _group_mean(gain * d_gain, ctx.groups, ctx.count)
        dx = torch.addcmul(-rstd * mean, y, -rstd * rstd * slope)
        return dx.addcmul_(du, a).to(ctx.dtype), d_gain, d_shift, None, None, None


def modulated_norm_silu(x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float = EPS) -> Tensor:
    """SiLU(GroupNorm(x) gain + shift) (B, N, C) in x's dtype; the arithmetic is float32.

    x: (B, N, C); gain, shift: (B, C) float32. Differentiable once.
    """
    return _ModulatedNorm.apply(x, gain, shift, groups, eps, True)


def modulated_norm(x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float = EPS) -> Tensor:
    """The same without SiLU."""
    return _ModulatedNorm.apply(x, gain, shift, groups, eps, False)
