"""Which pixels of a segmentation are taken as sure: high probability, away from the rim and centre of the field.

Where spectra are sampled, a pixel too few costs nothing and a wrong one falsifies them: precision comes before
recall. All metrics that sample structures, and the one that scores the segmenter, take pixels here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def sure_pixels(p: Tensor, probability: float, field: Tensor, largest: bool = False) -> Tensor:
    """p (B, H, W) in [0, 1] -> bool: p >= probability inside `field` (H, W).

    largest: of each image only the largest component counts, found before the field is cropped.
    """
    found = p >= probability
    if largest:
        found = torch.stack([largest_component(f) for f in found])
    return found & field


def round_field(h: int, w: int, rim: float, centre: float) -> Tensor:
    """(H, W) bool: all pixels, or the round field without its rim and centre (shares of the half width)."""
    if rim == 0.0 and centre == 0.0:
        return torch.ones(h, w, dtype=torch.bool)
    half = min(h, w) / 2
    y = (torch.arange(h) + 0.5 - h / 2)[:, None]
    x = (torch.arange(w) + 0.5 - w / 2)[None, :]
    r = torch.hypot(y, x) / half
    return (r <= (1 - rim if rim > 0 else float("inf"))) & (r >= centre)


def largest_component(mask: Tensor) -> Tensor:
    """(H, W) bool: only the largest 4-connected component; the first in reading order of equal ones."""
    from scipy.ndimage import label

    labels, n = label(mask.numpy())
    if n < 2:
        return mask
    return torch.from_numpy(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
