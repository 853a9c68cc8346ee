"""Falling times that samplers walk along: uniform in t, uniform in the log-SNR, or EDM's powers of the noise level.

Sources: Karras et al. 2022, eq. 5 (rho = 7); Lu et al. 2022 (DPM-Solver), even steps of lambda (log-SNR).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.prior import NoisePath

Spacing = Literal["uniform", "edm", "log-snr"]

RHO = 7.0
LOUDEST = 1e3  # sigma / alpha of the second evaluation of a path that starts in pure noise, where it is infinite


def time_grid(path: NoisePath, n: int, spacing: Spacing = "uniform", rho: float = RHO) -> Tensor:
    """n + 1 times from 1 to 0, (n + 1,) float64.

    Where spacing is not uniform in t the last evaluation is at `path.last`; the step after it ends in t = 0.
    Raises: RecipeError for n below 1.
    """
    if n < 1:
        raise RecipeError(f"[sample] steps = {n}: at least 1")
    if spacing == "uniform" or n == 1:
        return torch.linspace(1.0, 0.0, n + 1, dtype=torch.float64)
    ends = path.log_snr(torch.tensor([1.0, path.last], dtype=torch.float64))
    quiet, loud = (-0.5 * ends[1]).exp(), (-0.5 * ends[0]).exp()
    loud = torch.where(loud.isfinite(), loud, LOUDEST)
    share = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    if spacing == "edm":
        noise = torch.lerp(loud ** (1 / rho), quiet ** (1 / rho), share) ** rho
    else:
        noise = torch.lerp(loud.log(), quiet.log(), share).exp()
    ts = torch.cat([path.log_snr_inverse(-2.0 * noise.log()), torch.zeros(1, dtype=torch.float64)])
    ts[0] = 1.0  # whatever the rounding, and for a path that starts in pure noise
    return ts
