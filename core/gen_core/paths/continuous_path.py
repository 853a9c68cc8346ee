"""What the continuous noise paths share: float64 inside, the dtype of t outside, and a choice of grids."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.paths.time_grid import Spacing, time_grid
from gen_core.prior import NoisePath


class ContinuousPath(NoisePath):
    """A path known in closed form at every t in [0, 1]; no method waits for the device.

    spacing: of `grid`. last: the time of a grid's last evaluation where spacing is not uniform.
    """

    steps = None
    spacing: Spacing = "uniform"

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2): infinite where sigma or alpha is 0."""
        t64 = t.double()
        return (2.0 * (self.alpha(t64).log() - self.sigma(t64).log())).to(t.dtype)

    def grid(self, n: int) -> Tensor:
        """n + 1 falling times from 1 to 0, float64, spaced as `spacing` says."""
        return time_grid(self, n, self.spacing)


class LinearBetaPath(ContinuousPath):
    """d ln alpha / dt = -beta(t) / 2 with beta(t) = beta_min + (beta_max - beta_min) t; sigma is the subclass's.

    Source: Song et al. 2021, eqs. 32 and 33.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, spacing: Spacing = "uniform"):
        if not 0 < beta_min <= beta_max:
            given = f"beta_min = {beta_min:g}, beta_max = {beta_max:g}"
            raise RecipeError(f"[prior] {given}: need 0 < beta_min <= beta_max")
        self.beta_min, self.beta_max, self.spacing = beta_min, beta_max, spacing

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t, float64."""
        t = t.double()
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def integral_inverse(self, B: Tensor) -> Tensor:
        """t of B; beyond the ends 0 or 1."""
        B = B.clamp(0.0, 0.5 * (self.beta_min + self.beta_max))
        # this form of the quadratic's root keeps its digits near 0, and when beta is constant
        return 2.0 * B / (self.beta_min + (self.beta_min**2 + 2.0 * (self.beta_max - self.beta_min) * B).sqrt())

    def alpha(self, t: Tensor) -> Tensor:
        return (-0.5 * self.integral(t)).exp().to(t.dtype)

    def drift(self, t: Tensor) -> Tensor:
        return -0.5 * self.beta(t)

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...
