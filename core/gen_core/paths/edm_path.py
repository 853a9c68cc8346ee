"""The path of EDM (Karras et al. 2022): the data stays, the noise level is time itself."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.paths.continuous_path import ContinuousPath
from gen_core.paths.time_grid import Spacing


class EdmPath(ContinuousPath):
    """alpha = 1, sigma = sigma_max t: their sigma(t) = t, with times scaled to [0, 1].

    sigma_min: the least noise level that a network is asked about on the grid. Source: Karras et al. 2022, table 1.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, spacing: Spacing = "edm"):
        if not 0 < sigma_min < sigma_max:
            raise RecipeError(
                f"[prior] sigma_min = {sigma_min:g}, sigma_max = {sigma_max:g}: need 0 < sigma_min < sigma_max"
            )
        self.sigma_min, self.sigma_max, self.spacing = sigma_min, sigma_max, spacing
        self.last = sigma_min / sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion2(self, t: Tensor) -> Tensor:
        return 2.0 * self.sigma_max**2 * t

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        return ((-0.5 * value.double()).exp() / self.sigma_max).clamp(max=1.0).to(value.dtype)
