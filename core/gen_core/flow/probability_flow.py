"""The probability-flow ODE of a diffusion prior, in the angle between data and noise: the same for every path.

With tan(theta) = sigma / alpha and u = z_t / sqrt(alpha^2 + sigma^2) the flow is
u = cos(theta) z_0 + sin(theta) eps,   du/dtheta = cos(theta) eps - sin(theta) z_0,
which is finite everywhere, at the ends of a VE path and in the pure noise of a rectified flow too.
Sources: Song et al. 2021 (score SDE), eq. 13, for the flow; Salimans & Ho 2022, appendix D, for the angle.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor

from gen_core.denoising import per_sample
from gen_core.prior import Denoise, NoisePath


def angle(path: NoisePath, t: float) -> float:
    """theta of a time."""
    at = torch.tensor([t], dtype=torch.float64)
    return torch.atan2(path.sigma(at), path.alpha(at)).item()


def radius(path: NoisePath, t: Tensor) -> Tensor:
    """sqrt(alpha^2 + sigma^2), (B,) float64: 1 on a variance-preserving path."""
    return torch.hypot(path.alpha(t.double()), path.sigma(t.double()))


def time_of(path: NoisePath, theta: Tensor) -> Tensor:
    """t of an angle, (B,) float64."""
    theta = theta.clamp(0.0, 0.5 * pi)  # a last step may round to beyond pure noise, where the tangent turns
    return path.log_snr_inverse(-2.0 * theta.tan().log())


def velocity(denoise: Denoise, path: NoisePath) -> Callable[[Tensor, Tensor], Tensor]:
    """(u (B, ...), theta (B,)) -> du/dtheta."""

    def slope(u: Tensor, theta: Tensor) -> Tensor:
        t = time_of(path, theta)
        z_0, eps = denoise(per_sample(radius(path, t), u) * u, t)
        return per_sample(theta.cos(), u) * eps - per_sample(theta.sin(), u) * z_0

    return slope


def first_time(path: NoisePath, end: float) -> float:
    """Where a flow to the data must stop: a discrete path knows nothing below its first step."""
    return max(end, 1.0 / path.steps) if path.steps else end
