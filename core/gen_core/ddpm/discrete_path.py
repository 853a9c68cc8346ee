"""The noise path of a discrete schedule: knots at t = k / T, ln alpha interpolated between them.

z_t = alpha z_0 + sigma eps with alpha^2 = alpha_bar_k at t = k / T, alpha^2 + sigma^2 = 1 (variance preserving).
t = 0 is data (alpha = 1, sigma = 0). Between knots ln alpha is linear, so the drift is constant there.
Source of the quantities: Song et al. 2021 (score SDE), Kingma et al. 2021 (log-SNR).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.prior import NoisePath

SNAP = 1e-4  # of a step: float32 t = k / T hits its knot exactly


class DiscretePath(NoisePath):
    """alpha, sigma, drift, diffusion2 and log-SNR of beta_1..beta_T.

    Computed in float64, returned in the dtype and on the device of t; no method waits for the device.
    """

    steps: int

    def __init__(self, betas: np.ndarray):
        self.steps, self.last = len(betas), 1.0 / len(betas)
        ln_alpha = 0.5 * np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])
        self._tables = {torch.device("cpu"): torch.from_numpy(ln_alpha)}

    def _knots(self, device: torch.device) -> Tensor:
        """ln alpha at k = 0..T, (T + 1,) float64."""
        if device not in self._tables:
            with torch.inference_mode(False):
                self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def position(self, t: Tensor) -> Tensor:
        """k = T t as float64, snapped to the integer it means when t was rounded to float32."""
        k = t.double() * self.steps
        nearest = k.round()
        return torch.where((k - nearest).abs() < SNAP, nearest, k).clamp(0.0, float(self.steps))

    def ln_alpha(self, t: Tensor) -> Tensor:
        """ln alpha(t), float64."""
        k, table = self.position(t), self._knots(t.device)
        low = k.floor().clamp(max=self.steps - 1)
        i = low.long()
        return torch.lerp(table[i], table[i + 1], k - low)

    def alpha(self, t: Tensor) -> Tensor:
        return self.ln_alpha(t).exp().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        # expm1: 1 - alpha^2 loses every digit near t = 0.
        return (-torch.expm1(2.0 * self.ln_alpha(t))).sqrt().to(t.dtype)

    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d ln alpha / dt of the interval that ends at t (at t = 0: the first one)."""
        table = self._knots(t.device)
        k = self.position(t).ceil().long().clamp(1, self.steps)
        return (self.steps * (table[k] - table[k - 1])).to(t.dtype)

    def diffusion2(self, t: Tensor) -> Tensor:
        """g^2 = -2 f, because alpha^2 + sigma^2 = 1."""
        return -2.0 * self.drift(t)

    def log_snr(self, t: Tensor) -> Tensor:
        ln_alpha2 = 2.0 * self.ln_alpha(t)
        return (ln_alpha2 - torch.log(-torch.expm1(ln_alpha2))).to(t.dtype)

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        """t of a log-SNR; values beyond the path's ends give 0 or 1."""
        table = self._knots(value.device)
        ln_alpha = 0.5 * torch.nn.functional.logsigmoid(value.double())
        k = torch.searchsorted(-table, -ln_alpha).clamp(1, self.steps)
        share = (ln_alpha - table[k - 1]) / (table[k] - table[k - 1])
        return ((k - 1 + share.clamp(0.0, 1.0)) / self.steps).to(value.dtype)

    def grid(self, n: int) -> Tensor:
        """n + 1 times from 1 to 0: integer steps round(T (n - i) / n), i = 0..n, over T.

        The first evaluation is at step T, the last at about T / n, and the last update ends in alpha = 1:
        elsewhere called "trailing" spacing with the final sigma zero (alpha set to one).
        """
        if not 1 <= n <= self.steps:
            raise RecipeError(f"[sample] steps = {n}: a schedule of {self.steps} steps allows 1..{self.steps}")
        return torch.from_numpy(np.round(self.steps * np.arange(n, -1, -1.0) / n) / self.steps)
