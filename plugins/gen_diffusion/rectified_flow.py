"""Rectified flow's sampler: Euler or Heun steps along the velocity dz/dt = alpha' z_0 + sigma' eps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, times
from gen_diffusion.sampler_options import RectifiedFlow


class RectifiedFlowSampler(Sampler):
    """On the straight path dz/dt = eps - z_0; elsewhere Euler's step over dalpha and dsigma is DDIM."""

    def __init__(self, options: RectifiedFlow):
        self.steps, self.heun = options.steps, options.method == "heun"

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Liu et al. 2023, eq. 1 and section 2.1; Heun's last step is Euler's: there is no eps at t = 0."""
        alpha, sigma = along(path, ts)
        t = times(ts, z)
        for i in range(len(ts) - 1):
            z_0, eps = denoise(z, t[i])
            if sigma[i + 1] == 0.0:
                return alpha[i + 1] * z_0  # where Euler's step ends
            da, ds = alpha[i + 1] - alpha[i], sigma[i + 1] - sigma[i]
            if self.heun:
                z_0_next, eps_next = denoise(z + da * z_0 + ds * eps, t[i + 1])
                z_0, eps = 0.5 * (z_0 + z_0_next), 0.5 * (eps + eps_next)
            z = z + da * z_0 + ds * eps
        return z


def build(options: RectifiedFlow, context: Any = None) -> RectifiedFlowSampler:
    """The rectified-flow sampler of `options`."""
    return RectifiedFlowSampler(options)
