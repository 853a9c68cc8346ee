"""Losses and penalties of a GAN, as functions.

Source: Goodfellow et al. 2014, section 3 (non-saturating); Mescheder et al. 2018, eq. 9 (R1); Karras et al. 2020,
"Analyzing and improving", section 3.2 and appendix B (path length, lazy regularization); Karras et al. 2019,
section 3.1 (style mixing).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_core import share
from gen_core.share import rows


def generator_loss(fake: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), mean over logits (B,)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), means over logits (B,)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1(logits: Tensor, x: Tensor) -> Tensor:
    """1/2 |grad_x D(x)|^2, mean over samples; gamma multiplies it. x: what the logits were made from, with gradient."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, w: Tensor, direction: Tensor) -> Tensor:
    """|J_w^T y| of each sample, the square averaged over its styles: (B,).

    images (B, C, H, W) made from w (B, L, dim); direction: standard normal, of the images' shape, divided here by
    sqrt(H W), so that the length does not depend on the resolution.
    """
    y = direction / (images.shape[-2] * images.shape[-1]) ** 0.5
    (gradient,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return (gradient.square().sum(2).mean(1) + 1e-12).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor, decay: float = 0.01) -> Tensor:
    """(|J^T y| - a)^2, mean over samples; `mean` (a, a scalar buffer) moves towards these lengths first, in place."""
    with torch.no_grad():
        mean.lerp_(share.mean(lengths.mean()).to(mean), decay)
    return (lengths - mean.clone()).square().mean()


def due(step: int, every: int) -> bool:
    """Whether a lazy penalty is computed in this step; its weight is then `every` times as large. 0 = never."""
    return every > 0 and step % every == 0


def mix_styles(w: Tensor, other: Tensor, portion: float, generator: torch.Generator) -> Tensor:
    """w (B, L, dim), with the styles from a random place on taken from `other`, for a portion of the samples."""
    b, styles, _ = w.shape
    at = generator.device
    cut = rows(b, lambda n: torch.randint(1, styles, (n,), generator=generator, device=at))
    mixed = rows(b, lambda n: torch.rand(n, generator=generator, device=at)) < portion
    cut = torch.where(mixed, cut, styles).to(w.device)
    return torch.where((torch.arange(styles, device=w.device) < cut[:, None])[:, :, None], w, other)
