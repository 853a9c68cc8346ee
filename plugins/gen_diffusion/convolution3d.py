"""Convolutions over (D, H, W) for channels-last volumes, right in bf16, with kernels stored as plain parameters.

Shape legend: h (B, D, H, W, C). Kernels lie (out, kd, kh, kw, in), for the reason given in `convolution`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axes = tuple[int, int, int]


def kernel_for(size: Axes) -> Axes:
    """3 along every axis of a network's input, 1 along axes of one voxel (images)."""
    return tuple(1 if n == 1 else 3 for n in size)  # type: ignore[return-value]


class Convolution3d(nn.Module):
    """A convolution padded to keep the size, or to halve it (rounded up) along axes of stride 2.

    Along an axis that is one voxel long only the middle of the kernel sees more than padding: the rest is left out.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: Axes, stride: Axes = (1, 1, 1), zero: bool = False):
        super().__init__()
        self.stride, self.padding = stride, tuple(k // 2 for k in kernel)
        bound = 1.0 / math.sqrt(dim_in * math.prod(kernel))  # the usual uniform initialization (He et al. 2015)
        self.weight = nn.Parameter(torch.empty(dim_out, *kernel, dim_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(dim_out).uniform_(-bound, bound))
        if zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, h: Tensor) -> Tensor:
        weight, padding = self.weight, list(self.padding)
        for axis, n in enumerate(h.shape[1:4]):
            if n == 1 and padding[axis]:
                weight, padding[axis] = weight.narrow(axis + 1, padding[axis], 1), 0
        if weight.shape[1] == 1 and self.stride[0] == 1:  # depth folds into the batch of a 2-D convolution
            x, weight = h.flatten(0, 1).permute(0, 3, 1, 2), weight[:, 0].permute(0, 3, 1, 2)
            y = F.conv2d(x, weight, self.bias, self.stride[1:], padding[1:])
            return y.permute(0, 2, 3, 1).unflatten(0, h.shape[:2])
        x, weight = h.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not self._half_is_right(x, weight):
            with torch.autocast("cpu", enabled=False):
                y = F.conv3d(x.float(), weight, self.bias, self.stride, padding)
        else:
            y = F.conv3d(x, weight, self.bias, self.stride, padding)
        return y.permute(0, 2, 3, 4, 1)

    def _half_is_right(self, x: Tensor, weight: Tensor) -> bool:
        """Whether torch's CPU convolution can be trusted in bf16 with this shape.

        Measured with torch 2.13: the weight gradient is garbage or NaN where the kernel is larger than the input or
        the input has 512 channels; the output is where it is one column wide; few channels crash at large sizes.
        """
        dim_out, dim_in, *kernel = weight.shape
        fits = all(k <= n for k, n in zip(kernel, x.shape[2:]))
        columns = -(-x.shape[4] // self.stride[2])
        return fits and min(dim_in, dim_out) >= 16 and dim_in <= 256 and columns > 1


def repeat_to(h: Tensor, size: Axes) -> Tensor:
    """Each voxel twice along every axis that must grow, cut to `size`: the inverse of halving, also of odd sizes."""
    B, D, H, W, C = h.shape
    d, y, x = (1 if n == m else 2 for n, m in zip((D, H, W), size))
    h = h[:, :, None, :, None, :, None].expand(B, D, d, H, y, W, x, C)
    return h.reshape(B, D * d, H * y, W * x, C)[:, : size[0], : size[1], : size[2]]
