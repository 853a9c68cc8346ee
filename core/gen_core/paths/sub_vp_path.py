"""The sub-VP path (Song et al. 2021): alpha of the variance-preserving path, with less noise at every time."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.paths.continuous_path import LinearBetaPath


class SubVpPath(LinearBetaPath):
    """alpha = exp(-B / 2), sigma = 1 - exp(-B), with B the integral of beta from 0 to t.

    Source: Song et al. 2021, eqs. 12 and 29.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self.integral(t))).to(t.dtype)

    def diffusion2(self, t: Tensor) -> Tensor:
        return (self.beta(t.double()) * -torch.expm1(-2.0 * self.integral(t))).to(t.dtype)

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        """(1 - sigma) / sigma^2 = SNR is quadratic in sigma, and B = -ln(1 - sigma)."""
        v = value.double()
        sigma = 2.0 / (1.0 + (1.0 + 4.0 * v.exp()).sqrt())
        # in strong noise 1 - sigma loses its digits, and is SNR sigma^2
        B = torch.where(v < 0, -(v + 2.0 * sigma.log()), -torch.log1p(-sigma))
        return self.integral_inverse(B).to(value.dtype)
