"""One draw of a one-shot prior, with truncation towards its mean.

Source: Karras et al. 2019, appendix B (truncation in W); Kingma & Dhariwal 2018, section 6 (noise of a lower
temperature, for priors without W).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gen_core.condition import Conditions
from gen_core.errors import RecipeError
from gen_core.prior import Denoise, DirectPrior, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_gan.direct_options import Direct


class DirectSampler(Sampler):
    """z = G(noise(0)); a prior that does not truncate by itself gets its noise scaled by psi."""

    steps = 1

    def __init__(self, options: Direct):
        self.truncation = options.truncation

    def draw(self, prior: DirectPrior, noise: Noise, cond: Conditions | None = None) -> Tensor:
        if prior.truncates:
            return prior.draw(noise(0), cond, truncation=self.truncation)
        return prior.draw(self.truncation * noise(0), cond)

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Raises: RecipeError, always: a diffusion prior draws in many steps."""
        raise RecipeError('[sampler] use = "direct" draws from one-shot priors; this prior needs a diffusion sampler')


def build(options: Direct, context: Any = None) -> DirectSampler:
    """The sampler of `options`."""
    return DirectSampler(options)
