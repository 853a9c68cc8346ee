"""Heun's method with churn, the stochastic sampler of EDM (Karras et al. 2022), on any noise path."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import torch
from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, times
from gen_diffusion.sampler_options import Heun


class HeunSampler(Sampler):
    """Two evaluations a step, one in the last; with churn each step first goes back into the noise a little."""

    def __init__(self, options: Heun):
        o = options
        self.steps, self.S_churn, self.S_noise = o.steps, o.S_churn, o.S_noise
        self.S_tmin, self.S_tmax = o.S_tmin, o.S_tmax or inf

    def churned(self, path: NoisePath, ts: Tensor) -> Tensor:
        """t_hat of every step: where sigma / alpha is (1 + gamma) times that of t, at most 1."""
        noise = (-0.5 * path.log_snr(ts.double())).exp()
        gamma = min(self.S_churn / (len(ts) - 1), sqrt(2.0) - 1.0)
        t_hat = path.log_snr_inverse(-2.0 * ((1.0 + gamma) * noise).log())
        inside = (noise >= self.S_tmin) & (noise <= self.S_tmax) & (ts > 0) & (ts < 1)
        return torch.where(inside & (gamma > 0), t_hat, ts)

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Karras et al. 2022, algorithm 2, which is this with alpha = 1.

        For any alpha the slope (dalpha, dsigma) . (z_0, eps) is averaged over both ends of the step.
        """
        ts = ts.double().cpu()
        ts_hat = self.churned(path, ts)
        (alpha, sigma), (alpha_hat, sigma_hat) = along(path, ts), along(path, ts_hat)
        t, t_hat, draws = times(ts, z), times(ts_hat, z), 0
        churned = (ts_hat > ts).tolist()
        for i in range(len(ts) - 1):
            if churned[i]:
                ratio = alpha_hat[i] / alpha[i]
                added = sqrt(max(sigma_hat[i] ** 2 - (ratio * sigma[i]) ** 2, 0.0))
                z = ratio * z + (added * self.S_noise) * noise(draws)
                draws += 1
            z_0, eps = denoise(z, t_hat[i])
            if sigma[i + 1] == 0.0:
                return alpha[i + 1] * z_0
            da, ds = alpha[i + 1] - alpha_hat[i], sigma[i + 1] - sigma_hat[i]
            z_0_next, eps_next = denoise(z + da * z_0 + ds * eps, t[i + 1])
            z = z + (0.5 * da) * (z_0 + z_0_next) + (0.5 * ds) * (eps + eps_next)
        return z


def build(options: Heun, context: Any = None) -> HeunSampler:
    """The Heun sampler of `options`."""
    return HeunSampler(options)
