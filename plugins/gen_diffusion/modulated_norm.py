"""GroupNorm, scale, shift and SiLU as one operation on channels-last data, with its own gradient.

Shape legend: x (B, N, C), N all positions of a sample (D H W); gain, shift (B, C).
Written one after the other these cost eleven passes over the data forth and back on a CPU, and the library's
GroupNorm is slow there in channels-last memory; here it is five and seven, and one tensor is kept, not four. On a GPU
it is compiled: x is read three times and written once, and kept in its own precision.
Source: Wu & He 2018 (group normalization); the modulation is that of Nichol & Dhariwal 2021, eq. 4.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gen_core.engine.fused import Fused

EPS = 1e-5


def _group_mean(sums: Tensor, groups: int, count: int) -> Tensor:
    """Sums a channel (B, C) to the mean of its group (B, 1, C), which holds `count` values."""
    B, C = sums.shape
    mean = sums.view(B, groups, -1).sum(2, keepdim=True) / count
    return mean.expand(B, groups, C // groups).reshape(B, 1, C)


def _forward(x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> tuple[Tensor, ...]:
    """What goes on in x's dtype, and mean and 1 / sd (B, 1, C): for a compiler, which makes passes of it."""
    count, values = x.shape[1] * x.shape[2] // groups, x.float()
    mean = _group_mean(values.sum(1), groups, count)
    y = values - mean
    rstd = torch.rsqrt(_group_mean((y * y).sum(1), groups, count) + eps)
    u = y * (rstd * gain[:, None]) + shift[:, None]
    return (u * torch.sigmoid(u) if silu else u).to(x.dtype), mean, rstd


def _backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gain: Tensor, shift: Tensor, groups: int, silu: bool
) -> tuple[Tensor, ...]:
    """Gradients of x, gain and shift; the formulas are those of `_ModulatedNorm.backward`."""
    count = x.shape[1] * x.shape[2] // groups
    y, du = x.float() - mean, grad.float()
    a = rstd * gain[:, None]
    if silu:
        u = y * a + shift[:, None]
        s = torch.sigmoid(u)
        du = du * s * (1 + u * (1 - s))
    d_shift, d_gain = du.sum(1), (du * y).sum(1) * rstd[:, 0]
    least = _group_mean(gain * d_shift, groups, count)
    slope = _group_mean(gain * d_gain, groups, count)
    return (du * a - rstd * least - y * (rstd * rstd * slope)).to(x.dtype), d_gain, d_shift


_fused_forward, _fused_backward = Fused(_forward), Fused(_backward)


class _ModulatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
        ctx.groups, ctx.dtype, ctx.silu = groups, x.dtype, silu
        ctx.count = x.shape[1] * x.shape[2] // groups
        if x.device.type == "cuda":
            out, mean, rstd = _fused_forward(x, gain, shift, groups, eps, silu)
            ctx.save_for_backward(x, mean, rstd, gain, shift)
            return out
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
        saved = ctx.saved_tensors
        if len(saved) == 5:
            return (*_fused_backward(grad, *saved, ctx.groups, ctx.silu), None, None, None)
        y, rstd, gain, shift = saved
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
