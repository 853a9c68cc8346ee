"""Convolution whose weights every sample scales for itself.

Weights w_oijk of sample b become s_bi w_oijk, divided by their norm over i, j, k where demodulated. Scaling a weight's
input is scaling its input channel, and its norm is the same for all positions, so one shared convolution between two
products does what a grouped convolution over the batch would: the same numbers, quicker on small maps.
Source: Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", eqs. 1-3.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_gan.equalized_layers import EqualLinear
from gen_gan.upfirdn import BINOMIAL, upfirdn2d

TINY = 1e-8  # keeps a style of zeros finite


def modulated_conv2d(x: Tensor, w: Tensor, s: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """x (B, i, H, W), w (o, i, k, k), s (B, i) -> (B, o, H, W), or twice the size with `up`."""
    k = w.shape[-1]
    y = x * s[:, :, None, None]
    if up:
        assert k == 3, "the pads below are those of 3 x 3"
        # zeros between the pixels, convolution (2 H + 1), filter; the 4 makes up for the zeros
        y = F.conv_transpose2d(y, w.transpose(0, 1).flip(2, 3), stride=2)
        y = upfirdn2d(y, BINOMIAL, pads=(1, 1), gain=4.0)
    else:
        y = F.conv2d(y, w, padding=k // 2)
    if demodulate:
        power = s.square() @ w.square().sum((2, 3)).t()  # (B, o)
        y = y * (power + TINY).rsqrt()[:, :, None, None]
    return y


class ModulatedConv2d(nn.Module):
    """A style (B, style) through a linear layer gives the scales, 1 at the start; the weights are equalized."""

    def __init__(self, n: int, out: int, kernel: int, style: int, demodulate: bool = True, up: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, n, kernel, kernel))
        self.affine = EqualLinear(style, n, bias=1.0)
        self.demodulate, self.up = demodulate, up

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        w = self.weight / math.sqrt(self.weight[0].numel())
        return modulated_conv2d(x, w, self.affine(style), self.demodulate, self.up)
