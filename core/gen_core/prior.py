"""The prior interface: a distribution over latents z; diffusion priors offer a noise path and `denoise`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from attrs import Factory, frozen
from torch import Tensor

from gen_core.condition import Conditions, ConditionSpec
from gen_core.trainable import Trainable

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(z_t (B, ...), t (B,) in [0, 1]) -> (z_0, eps): guidance, conditions and clamping are already inside."""


@frozen
class PriorContext:
    """What core hands to a prior's `build(options, context)`.

    shape: (c, d, h, w) of the latents. conditions: what [condition] declares, by name; a batch carries their values
    (`Conditions(batch.condition, batch.present)`), grids already at (d, h, w). A prior that takes no conditions
    refuses them.
    """

    shape: tuple[int, int, int, int]
    bounds: tuple[float, float] | None = None
    tokens: int | None = None
    conditions: dict[str, ConditionSpec] = Factory(dict)


class NoisePath(ABC):
    """z_t = alpha(t) z_0 + sigma(t) eps for t in [0, 1]; t = 0 is data. Every method takes and returns tensors.

    A discrete schedule of T steps lives at t = k / T, k = 1..T, and interpolates ln alpha between them.
    """

    steps: int | None = None  # T of a discrete schedule, else None
    last: float = 1e-3  # the time of the last evaluation on grids that are not even in t; the step after it ends in 0

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d ln alpha / dt."""

    @abstractmethod
    def diffusion2(self, t: Tensor) -> Tensor:
        """g^2(t) = d sigma^2 / dt - 2 f sigma^2."""

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2); lambda of Lu et al. 2022 is half of it."""
        return 2.0 * (self.alpha(t).log() - self.sigma(t).log())

    @abstractmethod
    def log_snr_inverse(self, value: Tensor) -> Tensor: ...

    @abstractmethod
    def grid(self, n: int) -> Tensor:
        """n + 1 falling times from 1 to 0 (float64): what a sampler of n steps walks along."""


class Prior(Trainable):
    """A fitted distribution over latents of one shape."""

    shape: tuple[int, int, int, int]


class DiffusionPrior(Prior):
    """A prior that any diffusion sampler can sample."""

    path: NoisePath

    @abstractmethod
    def denoise(self, z_t: Tensor, t: Tensor, cond: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """z_t (B, c, d, h, w), t (B,) in (0, 1] -> (z_0, eps), differentiable, unclamped, float32.

        cond: None means that nothing is known.
        """


class DirectPrior(Prior):
    """A one-shot prior (GAN generator, standard normal).

    truncates: `draw` takes `truncation` = psi in [0, 1] and draws nearer to its mean. Where it does not, the sampler
    `direct` scales the noise by psi.
    """

    truncates: bool = False

    @abstractmethod
    def noise_shape(self, n: int) -> tuple[int, ...]:
        """The shape of the standard normal noise of n samples: (n, ...)."""

    @abstractmethod
    def draw(self, noise: Tensor, cond: Conditions | None = None, **options: Any) -> Tensor:
        """noise (B, ...) -> z (B, c, d, h, w) float32; a sample depends on its own noise alone."""
