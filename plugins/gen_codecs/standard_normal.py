"""The prior `standard-normal`: latents are noise, as a VAE assumes; it has no weights and needs no fit.

Source: Kingma & Welling 2014, section 2.3 (p(z) = N(0, I)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_codecs.standard_normal_options import StandardNormal
from gen_core.condition import Conditions
from gen_core.errors import RecipeError
from gen_core.prior import DirectPrior, PriorContext


class StandardNormalPrior(DirectPrior):
    """z = noise; truncated, every value of the noise moves to the same quantile of the truncated normal."""

    def __init__(self, options: StandardNormal, context: PriorContext):
        super().__init__()
        self.shape, self.truncate = tuple(context.shape), options.truncate

    def noise_shape(self, n: int) -> tuple[int, ...]:
        return (n, *self.shape)

    def draw(self, noise: Tensor, cond: Conditions | None = None, **options: Any) -> Tensor:
        """noise (B, c, d, h, w) standard normal -> z of the same shape, float32."""
        return truncated(noise, self.truncate).float() if self.truncate else noise.float()


def truncated(noise: Tensor, bound: float) -> Tensor:
    """Standard normal values -> values of the normal truncated to +-bound, rank by rank: no draw is thrown away.

    z = Phi^-1(Phi(-bound) + Phi(noise) (1 - 2 Phi(-bound))). In float64: Phi rounds to 1 at 5.4 sd in float32.
    """
    tail = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64, device=noise.device))
    # computed on the lower half, where probabilities keep their digits, and mirrored
    low = torch.special.ndtri(tail + torch.special.ndtr(-noise.double().abs()) * (1 - 2 * tail))
    return (low.clamp_min(-bound) * -noise.double().sign()).to(noise.dtype)


def build(options: StandardNormal, context: PriorContext) -> StandardNormalPrior:
    """The prior for latents of `context.shape`. Raises: RecipeError where conditions are declared."""
    if context.conditions:
        told = ", ".join(context.conditions)
        raise RecipeError(f'[prior] use = "standard-normal" takes no conditions; [condition] declares {told}')
    return StandardNormalPrior(options, context)
