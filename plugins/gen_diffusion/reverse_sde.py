"""One step of the reverse SDE, by Euler-Maruyama or by ancestral sampling: what predictors are made of."""

from __future__ import annotations

from math import isfinite, sqrt

from torch import Tensor

from gen_core.prior import NoisePath
from gen_diffusion.coefficients import along, transition


class ReverseSde:
    """dz = (f z - g^2 score) dt + g dw, backwards along a grid; score = -eps / sigma.

    Source: Song et al. 2021 (score SDE), eq. 6; f = drift, g^2 = diffusion2.
    """

    def __init__(self, path: NoisePath, ts: Tensor, ancestral: bool = False):
        ts = ts.double().cpu()
        self.alpha, self.sigma = along(path, ts)
        self.f, self.g2 = path.drift(ts).tolist(), path.diffusion2(ts).tolist()
        self.h = (-ts.diff()).tolist()
        self.ancestral = ancestral

    def step(self, i: int, z: Tensor, z_0: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        """From the i-th time to the next, which is above 0."""
        h, f, g2 = self.h[i], self.f[i], self.g2[i]
        if self.ancestral or not isfinite(f):  # the SDE has no coefficients where nothing is left of the data
            alpha_ts, variance = transition(self.alpha, self.sigma, i)
            keep = (self.sigma[i + 1] / self.sigma[i]) ** 2
            mean = (self.alpha[i + 1] * variance / self.sigma[i] ** 2) * z_0 + (alpha_ts * keep) * z
            return mean + sqrt(variance * keep) * noise
        return (1.0 - h * f) * z - (h * g2 / self.sigma[i]) * eps + sqrt(h * g2) * noise
