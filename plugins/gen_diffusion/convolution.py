"""In-plane convolutions whose kernels lie channels-last in memory and yet are plain contiguous parameters.

Kernels are stored (out, kh, kw, in) and handed to the library as a view. Parameters in the library's own
channels-last format have other strides than shape order; its fused Adam on CPUs then copies every tensor twice,
and takes wrong elements where a gradient's strides differ from its parameter's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    """k x k over (H, W) for h (N, C, H, W), padded to keep the size; a 1 x k x k kernel of a volume."""

    def __init__(self, dim_in: int, dim_out: int, size: int, zero: bool = False):
        super().__init__()
        self.padding = size // 2
        bound = 1.0 / math.sqrt(dim_in * size * size)  # the usual uniform initialization (He et al. 2015, a = sqrt 5)
        self.weight = nn.Parameter(torch.empty(dim_out, size, size, dim_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(dim_out).uniform_(-bound, bound))
        if zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    @property
    def dim_out(self) -> int:
        return self.weight.shape[0]

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.weight.permute(0, 3, 1, 2), self.bias, padding=self.padding)


class Down(Convolution):
    """Halve H and W (odd sizes round up) with a 1 x 4 x 4 kernel."""

    def __init__(self, dim: int):
        super().__init__(dim, dim, 4)

    def forward(self, h: Tensor) -> Tensor:
        H, W = h.shape[-2:]
        if H % 2 or W % 2:
            h = F.pad(h, (0, W % 2, 0, H % 2))
        return F.conv2d(h, self.weight.permute(0, 3, 1, 2), self.bias, stride=2, padding=1)


class Up(Convolution):
    """Double H and W with a transposed 1 x 4 x 4 kernel, stored (in, kh, kw, out), cut to the size of the skip."""

    def __init__(self, dim: int):
        super().__init__(dim, dim, 4)

    def forward(self, h: Tensor, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        h = F.conv_transpose2d(h, self.weight.permute(0, 3, 1, 2), self.bias, stride=2, padding=1)
        return h[..., : size[0], : size[1]]


class Pointwise(nn.Linear):
    """A 1 x 1 x 1 convolution: a product over the channels-last view."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
