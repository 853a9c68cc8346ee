"""Noise schedules of discrete diffusion: beta_1..beta_T as float64.

Sources: Nichol & Dhariwal 2021 (cosine), Ho et al. 2020 (linear), Rombach et al. 2022 (scaled-linear).
"""

from __future__ import annotations

import numpy as np

from gen_core.errors import RecipeError


def cosine(steps: int, s: float = 0.008, clip: float = 0.9999) -> np.ndarray:
    """alpha_bar(k) proportional to cos^2((k/T + s) / (1 + s) * pi/2), beta clipped at `clip`.

    Source: Nichol & Dhariwal 2021, eq. 17; they clip at 0.999, the hyperspectral system at 0.9999.
    """
    k = np.arange(steps + 1, dtype=np.float64)
    alpha_bar = np.cos((k / steps + s) / (1 + s) * np.pi / 2) ** 2
    return np.clip(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.0, clip)


def linear(steps: int, beta_start: float, beta_end: float) -> np.ndarray:
    """beta from beta_start to beta_end in equal steps (Ho et al. 2020, section 4)."""
    return np.linspace(beta_start, beta_end, steps, dtype=np.float64)


def scaled_linear(steps: int, beta_start: float, beta_end: float) -> np.ndarray:
    """sqrt(beta) in equal steps (Rombach et al. 2022)."""
    return np.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=np.float64) ** 2


def betas(
    name: str, steps: int, *, s: float = 0.008, clip: float = 0.9999,
    beta_start: float = 0.0015, beta_end: float = 0.0195,
) -> np.ndarray:  # fmt: skip
    """The schedule `name` ("cosine", "scaled-linear", "linear") of `steps` steps; (T,) float64 in (0, 1).

    Raises: RecipeError for a linear schedule that does not rise.
    """
    if name == "cosine":
        return cosine(steps, s, clip)
    if beta_end < beta_start:
        raise RecipeError(f"[prior] beta_end = {beta_end:g} is smaller than beta_start = {beta_start:g}")
    return {"linear": linear, "scaled-linear": scaled_linear}[name](steps, beta_start, beta_end)
