"""The variance-preserving path with linear beta (Song et al. 2021): the limit of discrete DDPM schedules."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gen_core.paths.continuous_path import LinearBetaPath


class VpPath(LinearBetaPath):
    """alpha^2 = exp(-B), sigma^2 = 1 - exp(-B), with B the integral of beta from 0 to t.

    Source: Song et al. 2021, eqs. 11 and 29.
    """

    def sigma(self, t: Tensor) -> Tensor:
        # expm1: 1 - alpha^2 loses every digit near t = 0
        return (-torch.expm1(-self.integral(t))).sqrt().to(t.dtype)

    def diffusion2(self, t: Tensor) -> Tensor:
        return self.beta(t)

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        """alpha^2 = 1 / (1 + exp(-value)), so B = ln(1 + exp(-value))."""
        return self.integral_inverse(softplus(-value.double())).to(value.dtype)
