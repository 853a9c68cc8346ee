"""DPM-Solver++(2M), deterministic or stochastic: second order, multistep, in lambda = ln(alpha / sigma)."""

from __future__ import annotations

from math import exp, expm1
from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, half_log_snr, times
from gen_diffusion.sampler_options import DpmPlusPlus2M, DpmPlusPlus2MSde


class DpmPlusPlus2MSampler(Sampler):
    """The first step is of first order (no history); the last one too, because lambda is infinite at t = 0.

    eta: of the reverse SDE's noise; 0 = the deterministic solver, 1 = SDE-DPM-Solver++.
    """

    def __init__(self, options: DpmPlusPlus2M | DpmPlusPlus2MSde):
        self.steps, self.eta = options.steps, getattr(options, "eta", 0.0)

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2: D = (1 + 1/2r) z_0 - 1/2r z_0', data prediction.

        With noise: their SDE-DPM-Solver++(2M), whose e^-h and 1 - e^-2h are widened to any eta; theirs is eta = 1.
        """
        alpha, sigma = along(path, ts)
        lam, t = half_log_snr(alpha, sigma), times(ts, z)
        z_0_before, h_before = None, 0.0
        for i in range(len(ts) - 1):
            z_0, _ = denoise(z, t[i])
            if sigma[i + 1] == 0.0:
                z = alpha[i + 1] * z_0  # the limit h -> infinity
                continue
            h = lam[i + 1] - lam[i]
            D = z_0
            if z_0_before is not None:
                r = h_before / h  # infinite after a start in pure noise: no history
                D = (1.0 + 0.5 / r) * z_0 - (0.5 / r) * z_0_before
            forget = self.eta * h if self.eta > 0 else 0.0  # not 0 times an infinite h
            z = (sigma[i + 1] / sigma[i] * exp(-forget)) * z - (alpha[i + 1] * expm1(-h - forget)) * D
            if self.eta > 0:
                z = z + (sigma[i + 1] * (-expm1(-2.0 * forget)) ** 0.5) * noise(i)
            z_0_before, h_before = z_0, h
        return z


def build(options: DpmPlusPlus2M | DpmPlusPlus2MSde, context: Any = None) -> DpmPlusPlus2MSampler:
    """The DPM-Solver++(2M) sampler of `options`."""
    return DpmPlusPlus2MSampler(options)
