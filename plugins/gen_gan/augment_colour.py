"""Random changes of brightness and colour for any number of channels, as one affine map of the channels.

"Luma" is the direction (1, .., 1) / sqrt(C); what lies across it is colour. With one channel there is no colour:
saturation does nothing and the luma flip is the negative. With two, a hue has nowhere to turn.
Source: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B, made general.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_gan.augment_geometry import Draws

BRIGHTNESS_SD = 0.2  # of the range [-1, 1]
CONTRAST_SD = 0.5  # of log2 of the factor
SATURATION_SD = 1.0  # likewise


def colour_map(draws: Draws, channels: int) -> tuple[Tensor, Tensor]:
    """(matrix (n, C, C), offset (n, C)): brightness, contrast, luma flip, hue, saturation, in that order."""
    n, at = draws.n, {"device": draws.device, "dtype": draws.dtype}
    eye = torch.eye(channels, **at)
    luma = torch.full((channels, channels), 1.0 / channels, **at)  # v v^T
    wide = lambda v: v.view(-1, 1, 1)
    offset = draws.chance(BRIGHTNESS_SD * draws.normal(), 0.0)
    matrix = wide(draws.chance(torch.exp2(CONTRAST_SD * draws.normal()), 1.0)) * eye
    matrix = (eye - 2.0 * wide(draws.chance((draws.uniform() * 2.0).floor(), 0.0)) * luma) @ matrix
    if channels > 2:
        angle = draws.chance((2.0 * draws.uniform() - 1.0) * math.pi, 0.0)
        matrix = turn_across(draws.normal(channels, 2), angle) @ matrix
    if channels > 1:
        factor = wide(draws.chance(torch.exp2(SATURATION_SD * draws.normal()), 1.0))
        matrix = (luma + factor * (eye - luma)) @ matrix
    # brightness comes first: the same for all channels, moved by what follows
    return matrix, (matrix @ offset.view(n, 1, 1).expand(n, channels, 1))[:, :, 0]


def turn_across(plane: Tensor, angle: Tensor) -> Tensor:
    """Rotation (n, C, C) by `angle` (n,) in the plane of two vectors (n, C, 2), once they are across the luma axis.

    With three channels that is every rotation about the luma axis.
    """
    plane = plane - plane.mean(1, keepdim=True)
    a = plane[:, :, 0] / plane[:, :, 0].norm(dim=1, keepdim=True)
    b = plane[:, :, 1] - (plane[:, :, 1] * a).sum(1, keepdim=True) * a
    b = b / b.norm(dim=1, keepdim=True)
    outer = lambda p, q: p[:, :, None] * q[:, None, :]
    c, s = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    eye = torch.eye(a.shape[1], device=a.device, dtype=a.dtype)
    return eye + (c - 1.0) * (outer(a, a) + outer(b, b)) + s * (outer(b, a) - outer(a, b))


def recolour(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """x (B, C, H, W) through the map of each sample."""
    return torch.einsum("bij,bjhw->bihw", matrix, x) + offset[:, :, None, None]
