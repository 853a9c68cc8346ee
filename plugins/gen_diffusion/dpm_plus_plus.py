"""DPM-Solver++(2M): a deterministic second-order multistep solver in lambda = ln(alpha / sigma) (Lu et al. 2022)."""

from __future__ import annotations

from math import expm1, log
from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, times
from gen_diffusion.sampler_options import DpmPlusPlus2M


class DpmPlusPlus2MSampler(Sampler):
    """The first step is of first order (no history); the last one too, because lambda is infinite at t = 0."""

    def __init__(self, options: DpmPlusPlus2M):
        self.steps = options.steps

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2: D = (1 + 1/2r) z_0 - 1/2r z_0', data prediction."""
        alpha, sigma = along(path, ts)
        t = times(ts, z)
        z_0_before, h_before = None, 0.0
        for i in range(len(ts) - 1):
            z_0, _ = denoise(z, t[i])
            if sigma[i + 1] == 0.0:
                z = alpha[i + 1] * z_0  # the limit h -> infinity
                continue
            h = log(alpha[i + 1] / sigma[i + 1]) - log(alpha[i] / sigma[i])
            D = z_0
            if z_0_before is not None:
                r = h_before / h
                D = (1.0 + 0.5 / r) * z_0 - (0.5 / r) * z_0_before
            z = (sigma[i + 1] / sigma[i]) * z - (alpha[i + 1] * expm1(-h)) * D
            z_0_before, h_before = z_0, h
        return z


def build(options: DpmPlusPlus2M, context: Any = None) -> DpmPlusPlus2MSampler:
    """The DPM-Solver++(2M) sampler of `options`."""
    return DpmPlusPlus2MSampler(options)
