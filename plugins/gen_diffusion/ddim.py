"""Denoising diffusion implicit models (Song et al. 2021, "DDIM"): eta = 0 is a deterministic map, 1 ancestral."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, times, transition
from gen_diffusion.sampler_options import Ddim


class DdimSampler(Sampler):
    """z_s = alpha_s z_0 + sqrt(sigma_s^2 - sigma_tilde^2) eps + sigma_tilde noise."""

    def __init__(self, options: Ddim):
        self.steps, self.eta = options.steps, options.eta

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Song et al. 2021, eqs. 12 and 16 (their alpha is our alpha^2), for any path."""
        alpha, sigma = along(path, ts)
        t = times(ts, z)
        for i in range(len(ts) - 1):
            z_0, eps = denoise(z, t[i])
            sigma_tilde = self.eta * sigma[i + 1] / sigma[i] * transition(alpha, sigma, i)[1] ** 0.5
            direction = max(sigma[i + 1] ** 2 - sigma_tilde**2, 0.0) ** 0.5
            z = alpha[i + 1] * z_0 + direction * eps
            if self.eta > 0 and sigma[i + 1] > 0:
                z = z + sigma_tilde * noise(i)
        return z


def build(options: Ddim, context: Any = None) -> DdimSampler:
    """The DDIM sampler of `options`."""
    return DdimSampler(options)
