"""Histograms of every band, streamed: the 1-Wasserstein distance of each band within half a bin at each side.

W1(P, Q) = integral |F - G| dx for distributions on the line (Vallender 1974).
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 512  # over [-1, 1]: a value is known to 1/512, the distance to at most 2/512
WIDTH = 2.0 / BINS


class GroupHistograms:
    """Counts (groups, dim, BINS) of values in [-1, 1], kept apart for a number of groups of volumes."""

    def __init__(self, dim: int, groups: int = 1):
        self.counts = torch.zeros(groups, dim, BINS, dtype=torch.float64)

    def add(self, rows: Tensor, group: int = 0) -> None:
        """Take in rows (N, dim)."""
        if not len(rows):
            return
        dim = self.counts.shape[1]
        at = ((rows.to("cpu", torch.float64) + 1.0) / WIDTH).long().clamp(0, BINS - 1)
        flat = (at + torch.arange(dim) * BINS).flatten()
        self.counts[group] += torch.bincount(flat, minlength=dim * BINS).view(dim, BINS)

    def merge(self, other: GroupHistograms) -> None:
        """Take over all that `other` has seen."""
        self.counts += other.counts

    def total(self, without: int | None = None) -> Tensor:
        """(dim, BINS) counts of all groups, or of all but one."""
        keep = [g for g in range(len(self.counts)) if g != without]
        return self.counts[keep].sum(0)


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """(dim,) distances of two sets of counts (dim, BINS), in the units of the values; empty bands give 0."""
    cdf = lambda counts: counts.cumsum(1) / counts.sum(1, keepdim=True).clamp(min=1.0)
    return (cdf(a) - cdf(b)).abs().sum(1) * WIDTH
