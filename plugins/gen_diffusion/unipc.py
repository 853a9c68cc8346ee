"""UniPC (Zhao et al. 2023): a multistep predictor whose next evaluation also corrects the step before it."""

from __future__ import annotations

from math import expm1, factorial, isfinite
from typing import Any

import numpy as np
from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.coefficients import along, half_log_snr, times
from gen_diffusion.sampler_options import Unipc

HALF = np.array([0.5])  # the weight of a single difference: any B(h) allows it


class UnipcSampler(Sampler):
    """UniPC-p in data prediction: one evaluation a step, order p of the predictor, p + 1 of the corrector."""

    def __init__(self, options: Unipc):
        self.steps, self.order, self.variant = options.steps, options.order, options.variant

    def weights(self, r: list[float], h: float) -> tuple[float, np.ndarray, np.ndarray]:
        """B(h) and the weights of D_m / r_m: of the predictor, (p - 1,), and of the corrector, (p,).

        r: (lambda_m - lambda_t) / h of the history, then 1. Source: Zhao et al. 2023, section 3 (their R, b and phi_k).
        """
        B, phi = (-h if self.variant == "bh1" else expm1(-h)), expm1(-h) / -h - 1.0
        b = []
        for k in range(1, len(r) + 1):
            b.append(phi * factorial(k) / B)
            phi = phi / -h - 1.0 / factorial(k + 1)
        R = np.vander(r, increasing=True).T  # R[k, m] = r_m^k
        predictor = HALF[: len(r) - 1] if len(r) < 3 else np.linalg.solve(R[:-1, :-1], b[:-1])
        return B, predictor, HALF if len(r) == 1 else np.linalg.solve(R, b)

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Zhao et al. 2023 (arXiv 2302.04867), UniP and UniC in multistep form, for data prediction."""
        alpha, sigma = along(path, ts)
        lam, t = half_log_snr(alpha, sigma), times(ts, z)
        history: list[tuple[float, Tensor]] = []  # lambda and z_0 of the steps before, the latest first
        n, step_before = len(ts) - 1, None
        for i in range(n):
            z_0, _ = denoise(z, t[i])
            if step_before is not None:
                first, gain, w, D, z_0_before = step_before
                z = first - gain * weighted(w, [*D, z_0 - z_0_before])
            if sigma[i + 1] == 0.0:
                return alpha[i + 1] * z_0  # the limit h -> infinity
            h = lam[i + 1] - lam[i]
            first = (sigma[i + 1] / sigma[i]) * z - (alpha[i + 1] * expm1(-h)) * z_0
            if isfinite(h):
                p = min(self.order, len(history) + 1)
                if sigma[-1] == 0.0:
                    p = min(p, n - i)  # lower towards the data, where lambda goes to infinity
                r = [(lam_m - lam[i]) / h for lam_m, _ in history[: p - 1]]
                D = [(m - z_0) / r_m for r_m, (_, m) in zip(r, history)]
                B, predictor, corrector = self.weights([*r, 1.0], h)
                history = [(lam[i], z_0), *history][: self.order - 1]
            else:  # a start in pure noise: first order, and no history for the next step
                D, B, predictor, corrector = [], -1.0, np.zeros(0), HALF
            gain = alpha[i + 1] * B
            z = first - gain * weighted(predictor, D) if D else first
            step_before = (first, gain, corrector, D, z_0)
        return z


def weighted(w: np.ndarray, D: list[Tensor]) -> Tensor:
    return sum((a * d for a, d in zip(w[1:].tolist(), D[1:])), w[0].item() * D[0])


def build(options: Unipc, context: Any = None) -> UnipcSampler:
    """The UniPC sampler of `options`."""
    return UnipcSampler(options)
