"""Layers with equalized learning rate: weights are drawn from N(0, 1) and scaled where they are used.

So that Adam moves every layer by the same relative amount. Source: Karras et al. 2018, "Progressive growing of GANs",
section 4.1; the learning-rate multiplier is that of Karras et al. 2019, appendix C.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_gan.upfirdn import BINOMIAL, upfirdn2d

SLOPE, GAIN = 0.2, math.sqrt(2.0)  # of the leaky rectifier; the gain keeps unit variance, about


def leaky(x: Tensor) -> Tensor:
    """sqrt(2) leaky-relu(x, 0.2)."""
    return F.leaky_relu(x, SLOPE) * GAIN


class EqualLinear(nn.Module):
    """y = x (w lr / sqrt(n))^T + b lr, with w ~ N(0, 1 / lr^2): it learns `lr` times as fast as other layers."""

    def __init__(self, n: int, out: int, bias: float = 0.0, lr: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, n) / lr)
        self.bias = nn.Parameter(torch.full((out,), bias / lr))
        self.lr = lr

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * (self.lr / math.sqrt(self.weight.shape[1])), self.bias * self.lr)


class EqualConv2d(nn.Module):
    """Convolution k x k with weights w / sqrt(n k k); `down` filters first and then strides by two."""

    def __init__(self, n: int, out: int, kernel: int, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, n, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.down, self.kernel = down, kernel

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight / math.sqrt(self.weight[0].numel())
        if not self.down:
            return F.conv2d(x, w, self.bias, padding=self.kernel // 2)
        # odd kernels and four taps: pixel n of the result lies between pixels 2 n and 2 n + 1
        reach = (self.kernel + 1) // 2
        return F.conv2d(upfirdn2d(x, BINOMIAL, pads=(reach, reach)), w, self.bias, stride=2)
