"""The straight path of rectified flow and flow matching: z_t = (1 - t) z_0 + t eps."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.paths.continuous_path import ContinuousPath
from gen_core.paths.time_grid import Spacing


class RectifiedFlowPath(ContinuousPath):
    """alpha = 1 - t, sigma = t. At t = 1 nothing is left of the data: drift, g^2 and -log-SNR are infinite there.

    Sources: Liu et al. 2023 (rectified flow), eq. 1; Lipman et al. 2023, eq. 22 with sigma_min = 0, time reversed.
    """

    def __init__(self, spacing: Spacing = "uniform"):
        self.spacing = spacing

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t.clone()

    def drift(self, t: Tensor) -> Tensor:
        return -1.0 / (1.0 - t)

    def diffusion2(self, t: Tensor) -> Tensor:
        """g^2 = 2 sigma + 2 sigma^2 / alpha."""
        return 2.0 * t / (1.0 - t)

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * value.double()).to(value.dtype)
