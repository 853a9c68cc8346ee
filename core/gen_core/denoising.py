"""Wrappers around `denoise` that any sampler can walk with: pure functions of (z_0, eps)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gen_core.condition import Conditions
from gen_core.prior import Denoise, NoisePath

Conditional = Callable[[Tensor, Tensor, Conditions | None], tuple[Tensor, Tensor]]
"""`denoise` of a diffusion prior: (z_t, t, conditions) -> (z_0, eps)."""

TINY = 1e-12  # sigma below this counts as t = 0, where z_t holds no noise to speak of


def per_sample(value: Tensor, z: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) in z's dtype, to multiply z with."""
    return value.to(z.dtype).reshape(-1, *(1,) * (z.ndim - 1))


def guided(denoise: Conditional, cond: Conditions, w: float, interval: tuple[float, float] = (0.0, 1.0)) -> Denoise:
    """`denoise` told `cond`, with classifier-free guidance: what is known counts w times over what is not.

    w = 1 is the conditional model, 0 the unconditional one. Outside `interval` (of t) w counts as 1.
    z_0 and eps are moved alike, so z_t = alpha z_0 + sigma eps goes on holding.
    Source: Ho & Salimans 2022, eq. 6 (their w is ours less 1); the interval: Kynkaanniemi et al. 2024.
    """
    nothing = cond.absent()
    both = Conditions(
        {name: torch.cat([v, nothing.values[name]]) for name, v in cond.values.items()},
        {name: torch.cat([v, nothing.present[name]]) for name, v in cond.present.items()},
    )

    always = interval[0] <= 0.0 and interval[1] >= 1.0

    def told(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        inside = (interval[0] <= t) & (t <= interval[1])  # of each sample: an adaptive solver's times differ
        # a device is not waited for: it computes both sides at all times
        free = always or inside.device.type == "cpu"
        everywhere = always or (free and bool(inside.all()))
        if w == 1 or (free and not always and not bool(inside.any())):
            return denoise(z, t, cond)
        if w == 0 and everywhere:
            return denoise(z, t, nothing)
        z_0, eps = denoise(torch.cat([z, z]), torch.cat([t, t]), both)  # one call of twice the batch
        (z_c, z_u), (e_c, e_u) = z_0.chunk(2), eps.chunk(2)
        by = w if everywhere else per_sample(torch.where(inside, w, 1.0), z)
        return z_u + by * (z_c - z_u), e_u + by * (e_c - e_u)

    return told


def moved(z_0: Tensor, eps: Tensor, z: Tensor, t: Tensor, path: NoisePath) -> tuple[Tensor, Tensor]:
    """z_0 after it was changed, with the eps that keeps z = alpha z_0 + sigma eps; at t = 0 `eps` as given."""
    alpha, sigma = path.alpha(t.double()), path.sigma(t.double())
    again = (z - per_sample(alpha, z) * z_0) / per_sample(sigma.clamp_min(TINY), z)
    return z_0, torch.where(per_sample(sigma, z) > TINY, again, eps)


def clamped(denoise: Denoise, path: NoisePath, bound: float) -> Denoise:
    """`denoise` with z_0 clamped to [-bound, bound] and eps recomputed, so that z_t = alpha z_0 + sigma eps holds.

    bound <= 0 leaves `denoise` as it is. An eps network needs this at the last steps of a cosine schedule,
    where z_0 = (z_t - sigma eps) / alpha magnifies every error by 1 / alpha.
    """
    if bound <= 0:
        return denoise

    def inside(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        z_0, eps = denoise(z, t)
        return moved(z_0.clamp(-bound, bound), eps, z, t, path)

    return inside


def thresholded(denoise: Denoise, path: NoisePath, share: float, bound: float = 1.0) -> Denoise:
    """`denoise` with dynamic thresholding: z_0 of each sample clamped at its own quantile, then scaled into the bound.

    share: of the values of |z_0| that stay below s; where s > bound, z_0 is clamped to [-s, s] and multiplied by
    bound / s. share <= 0 leaves `denoise` as it is. eps is recomputed, as in `clamped`.
    Source: Saharia et al. 2022 (Imagen), section 2.3; they use 0.995 of pixels in [-1, 1].
    """
    if share <= 0:
        return denoise

    def scaled(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        z_0, eps = denoise(z, t)
        sizes = z_0.abs().flatten(1)
        k = max(1, round(share * sizes.shape[1]))
        s = per_sample(sizes.kthvalue(k, 1).values.clamp_min(bound), z_0)  # torch.quantile is limited to 2^24 values
        return moved(torch.clamp(z_0, -s, s) * (bound / s), eps, z, t, path)

    return scaled
