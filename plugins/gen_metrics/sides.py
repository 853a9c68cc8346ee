"""Two sides of a Frechet distance whose parts can be asked for: intervals and limits need distances of subsets.

A side is an ordered list of units, each one volume or a group of volumes, in an order drawn by (seed, id). So every
subset is a function of seed and ids, and all sums run in one order: the same bits for any order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gen_metrics.frechet import frechet_gaussians, frechet_rows
from gen_metrics.moments import GroupMoments

Units = Sequence[int]
SHARE_REFUSED = 1 / 8  # vectors per feature under which a distance is not given


class Rows:
    """One feature vector a volume, rows (N, dim) float64; every volume is a unit."""

    def __init__(self, rows: Tensor):
        self.rows, self.dim = rows, rows.shape[1]
        self.volumes = [1] * len(rows)
        self.vectors = self.volumes

    def first(self, volumes: int) -> Rows:
        """The side of the first `volumes` volumes."""
        return Rows(self.rows[:volumes])

    def distance(self, other: Rows, mine: Units | None = None, theirs: Units | None = None) -> float:
        """Frechet distance between units `mine` of this side and `theirs` of the other; None: all."""
        pick = lambda rows, units: rows if units is None else rows[torch.as_tensor(units)]
        return frechet_rows(pick(self.rows, mine), pick(other.rows, theirs))


class Groups:
    """Many feature vectors a volume, tables of (n, dim); volume i falls into group i mod `groups`, a unit each.

    centre, scale (dim,): tables enter as (table - centre) / scale.
    """

    def __init__(self, tables: Sequence[Tensor], groups: int, centre: Tensor, scale: Tensor):
        self.tables, self.centre, self.scale = tables, centre, scale
        groups = min(groups, len(tables))
        self.dim = len(centre)
        self.moments = GroupMoments(self.dim, groups)
        for i, table in enumerate(tables):
            self.moments.add((table.double() - centre) / scale, i % groups)
        self.volumes = [int(v) for v in self.moments.volumes]
        self.vectors = [int(v) for v in self.moments.n]

    def first(self, volumes: int) -> Groups:
        """The side of the first `volumes` volumes."""
        if volumes >= len(self.tables):
            return self
        return Groups(self.tables[:volumes], len(self.volumes), self.centre, self.scale)

    def distance(self, other: Groups, mine: Units | None = None, theirs: Units | None = None) -> float:
        """Frechet distance between units `mine` of this side and `theirs` of the other; None: all."""
        gaussian = lambda side, units: side.moments.gaussian(None if units is None else list(units))
        return frechet_gaussians(*gaussian(self, mine), *gaussian(other, theirs))


class Planes:
    """Several sides of the same volumes, one a plane; the distance is the mean over planes."""

    def __init__(self, sides: dict[str, Groups]):
        self.sides = sides
        one = min(sides.values(), key=lambda side: sum(side.vectors))
        self.volumes, self.vectors, self.dim = one.volumes, one.vectors, one.dim

    def first(self, volumes: int) -> Planes:
        """The side of the first `volumes` volumes."""
        return Planes({name: side.first(volumes) for name, side in self.sides.items()})

    def distance(self, other: Planes, mine: Units | None = None, theirs: Units | None = None) -> float:
        """Mean over planes of the Frechet distance between units `mine` and `theirs`; None: all."""
        found = [side.distance(other.sides[name], mine, theirs) for name, side in self.sides.items()]
        return sum(found) / len(found)


Side = Any  # Rows, Groups or Planes; both sides of a distance are of one kind


def pooled_standardizer(tables: Sequence[Tensor], how: str) -> tuple[Tensor, Tensor]:
    """Mean and sd (dim,) of all rows of the tables; sd 1 where a feature is constant, and everywhere for "none"."""
    n = sum(map(len, tables))
    mean = torch.stack([t.double().sum(0) for t in tables]).sum(0) / n
    if how == "none":
        return mean, torch.ones_like(mean)
    sd = (torch.stack([(t.double() - mean).square().sum(0) for t in tables]).sum(0) / max(1, n - 1)).sqrt()
    return mean, torch.where(sd > 1e-12, sd, torch.ones_like(sd))


def refusal(sides: dict[str, Side]) -> str:
    """Why no distance is given, "" when it is: fewer than two volumes, or fewer than dim / 8 vectors on a side.

    Two draws of n from one Gaussian N(0, 1_d), n < d, lie 2 d (1 - .849 sqrt(n / d)) + 2 d / n apart (the nuclear
    norm of a square Gaussian matrix; 753 + 20 at n = 50, d = 512), of 2 d at most: under n = d / 8 chance alone gives
    70 % of the largest value there is, and the figure says how many volumes there are, not how good they are.
    """
    for name, side in sides.items():
        if sum(side.volumes) < 2:
            return f"{name} has fewer than two volumes"
        if sum(side.vectors) < SHARE_REFUSED * side.dim:
            return (
                f"{sum(side.vectors)} feature vectors of {name} for {side.dim} features: "
                f"under {SHARE_REFUSED:g} of them a distance measures the number of volumes"
            )
    return ""


def small_flag(counts: dict[str, int], dim: int) -> str:
    """A warning when a side has no more volumes than features: the covariance is singular, the distance biased up."""
    few = [f"{n} {s}" for s, n in counts.items() if n <= dim]
    return f"{', '.join(few)} volumes for {dim} features: biased upwards" if few else ""
