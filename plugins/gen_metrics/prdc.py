"""Precision, recall, density and coverage of samples among real volumes, in feature space.

With B(x, r) the ball around x up to its k-th nearest neighbour of its own kind:

- precision: share of samples inside the union of the real balls; recall: share of real volumes inside the union of
  the samples' balls (Kynkaanniemi et al. 2019, eqs. 1-3);
- density: mean number of real balls a sample lies in, over k; coverage: share of real balls that hold a sample
  (Naeem et al. 2020, eqs. 3 and 4). Density may exceed 1; an outlier among the real volumes spoils neither.

Distances are L2, exact, computed in chunks: memory grows with the number of volumes, not with its square. A ball
includes its rim, so that an exact copy counts as inside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.fid import standardizer
from gen_metrics.frechet_values import INTERVAL
from gen_metrics.intervals import jackknife
from gen_metrics.streams import Names, context_features, features_treatment, in_seeded_order

CHUNK = 256  # rows of a distance matrix at once
NAMES = ("precision", "recall", "density", "coverage")
FEW = 20  # times k volumes: with fewer on a side radii are a guess


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) L2 distances, exact where rows are equal (no matrix product)."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def radii(x: Tensor, k: int, groups: int) -> Tensor:
    """(1 + groups, n): distance of each row to its k-th nearest other row; then the same without each group.

    Row i belongs to group i mod `groups`. Raises: ValueError when no k other rows are left.
    """
    n = len(x)
    if n - (-(-n // groups) if groups else 0) - 1 < k:
        raise ValueError(f"{n} rows in {groups} groups leave no {k} neighbours")
    of = torch.arange(n) % groups if groups else torch.zeros(n)
    found = torch.empty(1 + groups, n, dtype=x.dtype)
    for start in range(0, n, CHUNK):
        d = distances(x[start : start + CHUNK], x)
        rows = torch.arange(start, start + len(d))
        d[rows - start, rows] = torch.inf
        found[0, rows] = d.kthvalue(k, dim=1).values
        for g in range(groups):
            found[1 + g, rows] = d[:, of != g].kthvalue(k, dim=1).values
    return found


def prdc(real: Tensor, fake: Tensor, k: int, groups: int = 0) -> tuple[dict[str, float], list[list[dict[str, float]]]]:
    """The four figures of rows real (N, dim) and fake (M, dim), and for a jackknife the same without each group.

    Returns (figures, [those without group g of real, those without group g of fake]); groups = 0: no such lists.
    """
    n, m = len(real), len(fake)
    groups_of = [torch.arange(size) % groups if groups else torch.zeros(size) for size in (n, m)]
    r_real, r_fake = radii(real, k, groups), radii(fake, k, groups)
    # real rows left out change the real balls, fake rows left out the fake ones: (variant, kept real, kept fake)
    everything = torch.ones(n, dtype=torch.bool), torch.ones(m, dtype=torch.bool)
    variants = [(r_real[0], r_fake[0], *everything)]
    variants += [(r_real[1 + g], r_fake[0], groups_of[0] != g, everything[1]) for g in range(groups)]
    variants += [(r_real[0], r_fake[1 + g], everything[0], groups_of[1] != g) for g in range(groups)]
    sums = torch.zeros(len(variants), 4, dtype=torch.float64)
    balls = torch.stack([v[0].masked_fill(~v[2], -1.0) for v in variants])  # a ball left out holds nothing
    near = [torch.zeros(n, dtype=torch.bool) for _ in variants]  # real rows inside a fake ball
    covered = [torch.zeros(n, dtype=torch.bool) for _ in variants]
    for start in range(0, m, CHUNK):
        part = slice(start, start + CHUNK)
        d = distances(real, fake[part])
        for v, (_, fake_radii, _, kept) in enumerate(variants):
            inside = (d <= balls[v][:, None]) & kept[part]
            holding = inside.sum(0)
            sums[v, 0] += (holding > 0).sum()
            sums[v, 2] += holding.sum()
            covered[v] |= inside.any(1)
            near[v] |= ((d <= fake_radii[part]) & kept[part]).any(1)
    figures = []
    for v, (_, _, kept_real, kept_fake) in enumerate(variants):
        sums[v, 1], sums[v, 3] = (near[v] & kept_real).sum(), (covered[v] & kept_real).sum()
        samples, volumes = int(kept_fake.sum()), int(kept_real.sum())
        sizes = torch.tensor([samples, volumes, k * samples, volumes])
        figures.append(dict(zip(NAMES, (sums[v] / sizes).tolist())))
    return figures[0], [figures[1 : 1 + groups], figures[1 + groups :]] if groups else []


class Prdc(Metric):
    """Keeps one feature vector a volume."""

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Prdc, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.rows: dict[str, dict[str, Tensor]] = {}

    def update(self, batch: Batch, source: str) -> None:
        found = context_features(self.context, self.options.features, batch, source)
        self.rows.setdefault(source, {}).update(zip(self.names.of(batch, source), found))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Prdc)
        for source, rows in other.rows.items():
            self.rows.setdefault(source, {}).update(rows)

    def compute(self) -> Result:
        o = self.options
        other = "train" if o.real == "val" else "val"
        protocol: dict[str, Any] = {
            "definition": "precision, recall (Kynkaanniemi 2019), density, coverage (Naeem 2020); L2, rim included",
            "k": o.k,
            "real": o.real,
            "standardize": o.standardize,
            "seed": self.seed,
            "n": {s: len(r) for s, r in sorted(self.rows.items())},
            "floor": f"{other} as if it were samples, as many volumes as the scored source has",
        }
        if not self.rows:
            return Result([], protocol)
        network = self.context.features(o.features)
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        tables = {s: torch.stack([r for _, r in in_seeded_order(t, self.seed)]) for s, t in self.rows.items()}
        refused = {s: f"{len(t)} volumes for k = {o.k}" for s, t in tables.items() if len(t) < o.k + 2}
        if refused:
            protocol["refused"] = refused
        tables = {s: t for s, t in tables.items() if s not in refused}
        if o.real not in tables:
            return Result([], protocol | {"note": f"needs more than {o.k + 1} volumes of {o.real}"})
        mean, sd = standardizer(tables.get("val", tables[o.real]), o.standardize)
        tables = {s: (t - mean) / sd for s, t in tables.items()}
        real, values = tables[o.real], []
        for source in (other, "reconstruction", "synthetic"):
            if source not in tables:
                continue
            rows = tables[source]
            fewest = min(len(real), len(rows))
            groups = o.groups if fewest - (-(-fewest // o.groups)) > o.k else 0  # k neighbours must be left
            figures, left = prdc(real, rows, o.k, groups)
            floor: dict[str, float] = {}
            if source != other and other in tables and len(tables[other][: len(rows)]) > o.k + 1:
                floor = prdc(real, tables[other][: len(rows)], o.k)[0]
            few = [f"{len(t)} {s}" for s, t in ((source, rows), (o.real, real)) if len(t) < FEW * o.k]
            flag = f"{', '.join(few)} volumes, under {FEW} k: radii are a guess" if few else ""
            for name in NAMES:
                value, low, high = figures[name], None, None
                if left:
                    low, high = jackknife([[f[name] for f in side] for side in left], value)
                    high = max(value, high if name == "density" else min(high, 1.0))
                how = INTERVAL if left else ""
                beneath = floor.get(name)
                better = "higher" if name in ("precision", "recall", "coverage") else "match"
                values.append(Value(name, value, source, o.real, low, high, how, beneath, len(rows), better, flag))
        return Result(values, protocol)
