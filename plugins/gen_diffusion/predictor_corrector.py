"""Predictor-corrector sampling (Song et al. 2021): a step of the reverse SDE, then Langevin steps at its end."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.denoising import per_sample
from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import times
from gen_diffusion.reverse_sde import ReverseSde
from gen_diffusion.sampler_options import PredictorCorrector

# Counted beside a sample's own values as if their eps were of size 1. The step would follow the chance of a few values'
# norm, and steps that depend on where one is bias the distribution; among thousands of values it counts for nothing.
UNIT_VALUES = 32


class PredictorCorrectorSampler(Sampler):
    """1 + corrections evaluations a step; the last step gives the posterior mean, as there is no score at t = 0."""

    def __init__(self, options: PredictorCorrector):
        self.steps, self.corrections, self.snr = options.steps, options.corrections, options.snr
        self.ancestral = options.predictor == "ancestral"

    def langevin(self, z: Tensor, eps: Tensor, sigma: float, alpha2: float, noise: Tensor) -> Tensor:
        """z + e score + sqrt(2 e) noise with e = 2 alpha2 (snr |noise| / |score|)^2, score = -eps / sigma.

        Norms are root mean squares of each sample alone. Source: Song et al. 2021, algorithms 4 and 5; their code
        averages norms over the batch, where a sample would depend on its neighbours.
        """
        mean_square = lambda x: (x.flatten(1).square().sum(1) + UNIT_VALUES) / (x[0].numel() + UNIT_VALUES)
        ratio2 = sigma**2 * mean_square(noise) / mean_square(eps)
        e = per_sample(2.0 * alpha2 * self.snr**2 * ratio2, z)
        return z - (e / sigma) * eps + (2.0 * e).sqrt() * noise

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Song et al. 2021, algorithms 2 and 3."""
        sde, t, draws = ReverseSde(path, ts, self.ancestral), times(ts, z), 0
        for i in range(len(ts) - 1):
            z_0, eps = denoise(z, t[i])
            if sde.sigma[i + 1] == 0.0:
                return z_0
            z = sde.step(i, z, z_0, eps, noise(draws))
            draws += 1
            alpha2 = (sde.alpha[i] / sde.alpha[i + 1]) ** 2  # their alpha_i, 1 - beta_i of the step
            for _ in range(self.corrections):
                eps = denoise(z, t[i + 1])[1]
                z = self.langevin(z, eps, sde.sigma[i + 1], alpha2, noise(draws))
                draws += 1
        return z


def build(options: PredictorCorrector, context: Any = None) -> PredictorCorrectorSampler:
    """The predictor-corrector sampler of `options`."""
    return PredictorCorrectorSampler(options)
