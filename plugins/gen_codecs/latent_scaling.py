"""Mean and standard deviation of each latent channel over a whole data set, summed in float64."""

from __future__ import annotations

import torch
from torch import Tensor


class ChannelMoments:
    """Feed it latents (B, c, d, h, w) batch by batch; `mean` and `sd` are (c,) float64."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, e: Tensor) -> None:
        e = e.double()
        self.n += e.numel() // e.shape[1]
        # plain sums: means of batches would weigh a last, smaller batch too much
        self.total = self.total.to(e) + e.sum((0, 2, 3, 4))
        self.squares = self.squares.to(e) + e.square().sum((0, 2, 3, 4))

    @property
    def mean(self) -> Tensor:
        return self.total / self.n

    @property
    def sd(self) -> Tensor:
        """Of the population; at least 1e-6, for channels that never change."""
        return (self.squares / self.n - self.mean.square()).clamp_min(1e-12).sqrt()
