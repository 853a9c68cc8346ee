"""Euler-Maruyama on the reverse SDE (Song et al. 2021): the plainest stochastic sampler of a score model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import times
from gen_diffusion.reverse_sde import ReverseSde
from gen_diffusion.sampler_options import EulerMaruyama


class EulerMaruyamaSampler(Sampler):
    """z_s = z - h (f z - g^2 score) + sqrt(h) g noise; the last step gives the posterior mean instead of noise."""

    def __init__(self, options: EulerMaruyama):
        self.steps = options.steps

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Song et al. 2021, eq. 6; the denoising last step: their appendix G."""
        sde, t = ReverseSde(path, ts), times(ts, z)
        for i in range(len(ts) - 1):
            z_0, eps = denoise(z, t[i])
            if sde.sigma[i + 1] == 0.0:
                return z_0
            z = sde.step(i, z, z_0, eps, noise(i))
        return z


def build(options: EulerMaruyama, context: Any = None) -> EulerMaruyamaSampler:
    """The Euler-Maruyama sampler of `options`."""
    return EulerMaruyamaSampler(options)
