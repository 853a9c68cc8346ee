"""Ancestral sampling (Ho et al. 2020, algorithm 2), over every step of T or over fewer.

Respaced steps (Nichol & Dhariwal 2021, section 4) only change the neighbours: with t > s on the grid,
alpha_ts = alpha_t / alpha_s and beta_ts, the variance of q(z_t | z_s), take the place of sqrt(1 - beta_t) and beta_t.
So written the sampler holds for any path (Kingma et al. 2021, appendix A), not only the variance-preserving.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, times, transition
from gen_diffusion.sampler_options import Ddpm


class AncestralSampler(Sampler):
    """z_s ~ N(mean of q(z_s | z_t, z_0), variance); the step to sigma = 0 adds no noise."""

    def __init__(self, options: Ddpm):
        self.steps, self.variance = options.steps, options.variance

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Ho et al. 2020, eqs. 6, 7; variance "posterior" is their fixed-small, "beta" the fixed-large."""
        alpha, sigma = along(path, ts)
        t = times(ts, z)
        for i in range(len(ts) - 1):
            alpha_ts, beta_ts = transition(alpha, sigma, i)
            ratio = (sigma[i + 1] / sigma[i]) ** 2
            z_0, _ = denoise(z, t[i])
            z = (alpha[i + 1] * beta_ts / sigma[i] ** 2) * z_0 + (alpha_ts * ratio) * z
            if sigma[i + 1] > 0:
                variance = beta_ts * ratio if self.variance == "posterior" else beta_ts
                z = z + variance**0.5 * noise(i)
        return z


def build(options: Ddpm, context: Any = None) -> AncestralSampler:
    """The ancestral sampler of `options`."""
    return AncestralSampler(options)
