"""The sampler interface: from noise to z_0 along a path, knowing neither network nor parametrization."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from gen_core.condition import Conditions
from gen_core.prior import Denoise, DirectPrior, NoisePath

Noise = Callable[[int], Tensor]
"""noise(k): the k-th fresh standard normal tensor of z's shape, drawn per sample from that sample's own seed."""


class Sampler(ABC):
    """Built as `build(options, None)`. `steps` is the default number of network evaluations' grid steps."""

    steps: int

    @abstractmethod
    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """z: (B, ...) standard normal times sigma(ts[0]); ts: falling times ending in 0 (`path.grid(n)`), float64.

        Returns z_0. Calls noise(k) with k = 0, 1, 2, ... once for each fresh draw it needs.
        """

    def draw(self, prior: DirectPrior, noise: Noise, cond: Conditions | None = None) -> Tensor:
        """z of a one-shot prior from noise(0): what a sampler of diffusion priors leaves as it is."""
        return prior.draw(noise(0), cond)
