"""Mean and variance of a whole activation, gathered tile by tile in float64.

Source: Chan, Golub & LeVeque 1983, eqs. 2.1 (merging the moments of two sets).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Per channel: count, mean and summed squared deviation; tiles are merged in the order in which they come."""

    def __init__(self) -> None:
        self.n, self.mean, self.deviation = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """x: (1, C, d, h, w)."""
        n = x[0, 0].numel()
        mean, variance = _moments(x[0].float())
        if not self.n:
            self.n, self.mean, self.deviation = n, mean, variance * n
            return
        delta, total = mean - self.mean, self.n + n
        self.deviation = self.deviation + variance * n + delta.square() * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total

    def affine(self, groups: int, eps: float, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale and shift (1, C, 1, 1, 1) float32 that normalize each group of channels."""
        mean, deviation = self.mean.view(groups, -1), self.deviation.view(groups, -1)
        middle = mean.mean(1, keepdim=True)  # channels of a group hold equally many voxels
        variance = (deviation / self.n + (mean - middle).square()).mean(1, keepdim=True)
        scale = (variance + eps).rsqrt().expand_as(mean).reshape(-1)
        shift = -middle.expand_as(mean).reshape(-1) * scale
        if weight is not None:
            scale, shift = scale * weight.double(), shift * weight.double()
        if bias is not None:
            shift = shift + bias.double()
        return scale.float().view(1, -1, 1, 1, 1), shift.float().view(1, -1, 1, 1, 1)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) float64 of x (C, d, h, w)."""
    if x.device.type != "cpu":
        variance, mean = torch.var_mean(x.flatten(1), 1, correction=0)
        return mean.double(), variance.double()
    # the CPU's var_mean goes value by value; these are vectorized, and their copies are of one channel
    means = [channel.mean() for channel in x]
    spreads = [(channel - mean).square_().mean() for channel, mean in zip(x, means)]
    return torch.stack(means).double(), torch.stack(spreads).double()
