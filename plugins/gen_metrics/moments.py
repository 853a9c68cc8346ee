"""Sufficient statistics of Gaussians, streamed in float64: merging is exact, and groups allow a jackknife."""

from __future__ import annotations

import torch
from torch import Tensor


class GroupMoments:
    """Count, sum and sum of outer products of vectors, kept apart for a number of groups of volumes.

    float64: sums over 1e8 pixels lose the small differences of bands in float32.
    """

    def __init__(self, dim: int, groups: int = 1):
        self.dim = dim
        self.n = torch.zeros(groups, dtype=torch.float64)
        self.sum = torch.zeros(groups, dim, dtype=torch.float64)
        self.outer = torch.zeros(groups, dim, dim, dtype=torch.float64)
        self.volumes = torch.zeros(groups, dtype=torch.float64)

    def add(self, rows: Tensor, group: int = 0) -> None:
        """Take in rows (N, dim) of one volume."""
        rows = rows.to("cpu", torch.float64)
        self.n[group] += len(rows)
        self.sum[group] += rows.sum(0)
        self.outer[group] += rows.T @ rows
        self.volumes[group] += 1

    def merge(self, other: GroupMoments) -> None:
        """Take over all that `other` has seen."""
        self.n += other.n
        self.sum += other.sum
        self.outer += other.outer
        self.volumes += other.volumes

    @property
    def count(self) -> int:
        return int(self.n.sum())

    def used(self) -> list[int]:
        """Groups that hold anything."""
        return [g for g in range(len(self.n)) if self.n[g] > 0]

    def gaussian(self, groups: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """Mean (dim,) and unbiased covariance (dim, dim) of the given groups (default: all)."""
        pick = slice(None) if groups is None else groups
        n, s, o = self.n[pick].sum(), self.sum[pick].sum(0), self.outer[pick].sum(0)
        mean = s / n
        cov = (o - n * torch.outer(mean, mean)) / (n - 1).clamp(min=1.0)
        return mean, (cov + cov.T) / 2

    def without(self, group: int) -> tuple[Tensor, Tensor]:
        """The Gaussian of all groups but one."""
        return self.gaussian([g for g in self.used() if g != group])
