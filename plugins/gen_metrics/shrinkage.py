"""Covariances that can be inverted: shrunk towards a multiple of the identity, by no more than is needed.

Source: Chen et al. 2010, "Shrinkage algorithms for MMSE covariance estimation", eq. 23 (OAS). OAS asks how well n
independent rows know the covariance; bands that never vary, or that repeat each other, stay singular however many
rows there are. So the weight is raised, where OAS gives too little, until the condition number is at most `CONDITION`.
"""

from __future__ import annotations

import torch
from torch import Tensor

CONDITION = 1e8  # a Cholesky factor in float64 then keeps about eight digits


def oas_weight(cov: Tensor, n: int) -> float:
    """The weight of the identity, in [0, 1], for the sample covariance (p, p) of n rows."""
    p = len(cov)
    of_square, square_of = float((cov @ cov).trace()), float(cov.trace()) ** 2
    spread = (n + 1 - 2 / p) * (of_square - square_of / p)
    return min(1.0, ((1 - 2 / p) * of_square + square_of) / spread) if spread > 0 else 1.0


def is_regular(cov: Tensor) -> bool:
    """Whether the condition number of (p, p) is at most `CONDITION`."""
    values = torch.linalg.eigvalsh(cov)
    return bool(values[0] * CONDITION >= values[-1]) and bool(values[0] > 0)


def shrunk(cov: Tensor, n: int) -> tuple[Tensor, float]:
    """(1 - w) cov + w (tr cov / p) I, and w. A covariance of zero becomes a tiny multiple of the identity."""
    p = len(cov)
    mean = max(float(cov.trace()) / p, 1e-12)
    values = torch.linalg.eigvalsh(cov).clamp(min=0.0)
    low, high = float(values[0]), float(values[-1])
    # the least w with ((1 - w) low + w mean) CONDITION >= (1 - w) high + w mean
    lacking = high - CONDITION * low
    needed = lacking / (lacking + (CONDITION - 1) * mean) if lacking > 0 else 0.0
    w = max(oas_weight(cov, n), min(1.0, needed * (1 + 1e-6)))
    return (1 - w) * cov + w * mean * torch.eye(p, dtype=cov.dtype), w
