"""EDM's preconditioning: what a network sees and says so that both have unit variance at every noise level.

D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) is the denoiser of x = z_0 + sigma eps; z_0 has deviation sigma_data.
Any path is that up to scale: z_t / alpha = z_0 + (sigma / alpha) eps. `on_path` says it without dividing by alpha.
Source: Karras et al. 2022, section 5 and table 1, last column.
"""

from __future__ import annotations

import torch
from torch import Tensor

MEAN, SD = -1.2, 1.2  # of ln sigma in training
LOUDEST = 1e4  # sigma from which on the network is told no more: a path that ends in pure noise has no sigma there


def c_skip(sigma: Tensor, sigma_data: float) -> Tensor:
    """How much of x passes unchanged."""
    return sigma_data**2 / (sigma**2 + sigma_data**2)


def c_out(sigma: Tensor, sigma_data: float) -> Tensor:
    """What the network's output counts."""
    return sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()


def c_in(sigma: Tensor, sigma_data: float) -> Tensor:
    """What x is scaled by on its way into the network."""
    return (sigma**2 + sigma_data**2).rsqrt()


def c_noise(sigma: Tensor) -> Tensor:
    """How the network is told the noise level."""
    return 0.25 * sigma.clamp(1.0 / LOUDEST, LOUDEST).log()


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda, of the squared error of D: 1 / c_out^2, so that of F counts 1 at every noise level."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def on_path(alpha: Tensor, sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(p, q, r, s, u): z_0 = p z_t + q F and eps = r z_t + s F, with F = network(u z_t). Finite at alpha = 0 too."""
    scale = (sigma**2 + (alpha * sigma_data) ** 2).sqrt()  # deviation of z_t
    p, q = alpha * (sigma_data / scale) ** 2, sigma * sigma_data / scale
    r, s = sigma / scale**2, -alpha * sigma_data / scale
    return p, q, r, s, torch.reciprocal(scale)
