"""Wrappers around `denoise` that any sampler can walk with: pure functions of (z_0, eps)."""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.prior import Denoise, NoisePath

TINY = 1e-12  # sigma below this counts as t = 0, where z_t holds no noise to speak of


def per_sample(value: Tensor, z: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) in z's dtype, to multiply z with."""
    return value.to(z.dtype).reshape(-1, *(1,) * (z.ndim - 1))


def clamped(denoise: Denoise, path: NoisePath, bound: float) -> Denoise:
    """`denoise` with z_0 clamped to [-bound, bound] and eps recomputed, so that z_t = alpha z_0 + sigma eps holds.

    bound <= 0 leaves `denoise` as it is. An eps network needs this at the last steps of a cosine schedule,
    where z_0 = (z_t - sigma eps) / alpha magnifies every error by 1 / alpha.
    """
    if bound <= 0:
        return denoise

    def inside(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        z_0, eps = denoise(z, t)
        z_0 = z_0.clamp(-bound, bound)
        alpha, sigma = path.alpha(t.double()), path.sigma(t.double())
        again = (z - per_sample(alpha, z) * z_0) / per_sample(sigma.clamp_min(TINY), z)
        return z_0, torch.where(per_sample(sigma, z) > TINY, again, eps)

    return inside
