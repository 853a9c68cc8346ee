"""The variance-exploding path (Song et al. 2021): the data stays, the noise grows geometrically."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.paths.continuous_path import ContinuousPath
from gen_core.paths.time_grid import Spacing


class VePath(ContinuousPath):
    """alpha = 1, sigma^2 = sigma_min^2 (r^2t - 1) with r = sigma_max / sigma_min.

    Source: Song et al. 2021, eqs. 9 and 30; this is the exact marginal of that SDE started at t = 0. Theirs (eq. 29)
    is larger by the constant sigma_min^2 and jumps at t = 0; the diffusion g^2 is the same.
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, spacing: Spacing = "uniform"):
        if not 0 < sigma_min < sigma_max:
            raise RecipeError(
                f"[prior] sigma_min = {sigma_min:g}, sigma_max = {sigma_max:g}: need 0 < sigma_min < sigma_max"
            )
        self.sigma_min, self.sigma_max, self.spacing = sigma_min, sigma_max, spacing
        self.rate = 2.0 * log(sigma_max / sigma_min)  # ln r^2
        self.last = log(2.0) / self.rate  # where sigma = sigma_min

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return (self.sigma_min * torch.expm1(self.rate * t.double()).sqrt()).to(t.dtype)

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion2(self, t: Tensor) -> Tensor:
        return (self.sigma_min**2 * self.rate * (self.rate * t.double()).exp()).to(t.dtype)

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        noise2 = (-value.double()).exp() / self.sigma_min**2
        return (torch.log1p(noise2) / self.rate).clamp(max=1.0).to(value.dtype)
