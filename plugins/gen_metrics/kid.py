"""Kernel distance (KID): the unbiased squared maximum mean discrepancy of volume features.

MMD^2 = sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 sum k(x_i, y_j) / (m n)

with k(x, y) = (x^T y / dim + 1)^3. Source: Gretton et al. 2012, eq. 3; Binkowski et al. 2018, section 3. It has no
bias at any number of volumes (so it may lie under zero) where a Frechet distance has a large one.

Kernel sums are kept by pairs of groups of volumes: the jackknife over groups costs no kernel twice. Where there are
more volumes than `block`, both sides are cut into blocks of equal size, drawn by (seed, id), as Binkowski et al. do
with subsets; the score is the mean over blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.fid import standardizer
from gen_metrics.frechet_values import FLOOR, INTERVAL, SCORED
from gen_metrics.intervals import jackknife
from gen_metrics.streams import Names, context_features, features_treatment, in_seeded_order

CHUNK = 512  # rows of the kernel matrix at once
FEW = 20  # volumes of a side under which the score is flagged


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """(n, dim), (m, dim) -> (n, m): the cubic polynomial kernel."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def kernel_sums(x: Tensor, y: Tensor, groups: int, without_self: bool = False) -> Tensor:
    """(groups, groups): sums of k over pairs of groups; row i of x and of y belongs to group i mod `groups`.

    without_self: x and y are the same rows, and pairs (i, i) do not count.
    """
    sums = torch.zeros(groups, groups, dtype=torch.float64)
    of_y = torch.arange(len(y)) % groups
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        k = kernel(part, y)
        rows = torch.arange(start, start + len(part))
        if without_self:
            k[rows - start, rows] = 0.0
        by_column = torch.zeros(len(part), groups, dtype=torch.float64).index_add_(1, of_y, k)
        sums.index_add_(0, rows % groups, by_column)
    return sums


def group_sizes(n: int, groups: int) -> Tensor:
    """How many of n rows each group holds."""
    return torch.bincount(torch.arange(n) % groups, minlength=groups).double()


class KernelDistance:
    """MMD^2 of rows x (m, dim) and y (n, dim) and of what is left of them without one group; m, n >= 2."""

    def __init__(self, x: Tensor, y: Tensor, groups: int):
        self.sizes = group_sizes(len(x), groups), group_sizes(len(y), groups)
        self.xx = kernel_sums(x, x, groups, True)
        self.yy = kernel_sums(y, y, groups, True)
        self.xy = kernel_sums(x, y, groups)

    def value(self, drop_x: int | None = None, drop_y: int | None = None) -> float:
        """The distance, without group `drop_x` of x and group `drop_y` of y."""
        keep = [torch.ones_like(s) for s in self.sizes]
        for mask, drop in zip(keep, (drop_x, drop_y)):
            if drop is not None:
                mask[drop] = 0.0
        (a, b), (m, n) = keep, (float((s * k).sum()) for s, k in zip(self.sizes, keep))
        within = float(a @ self.xx @ a) / (m * (m - 1)) + float(b @ self.yy @ b) / (n * (n - 1))
        return within - 2.0 * float(a @ self.xy @ b) / (m * n)


def blocks(n: int, count: int) -> list[slice]:
    """`count` parts of n rows, of sizes that differ by one at most."""
    return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]


def kernel_distance(x: Tensor, y: Tensor, groups: int, block: int) -> tuple[float, float | None, float | None]:
    """(KID, low, high) of rows in random order; no interval where a side has fewer than six rows.

    block: rows of the longer side compared at once.
    """
    count = max(1, min(-(-max(len(x), len(y)) // block), min(len(x), len(y)) // 2))
    parts = list(zip(blocks(len(x), count), blocks(len(y), count)))
    shortest = min(min(i.stop - i.start, j.stop - j.start) for i, j in parts)
    groups = min(groups, shortest // 2)
    found = [KernelDistance(x[i], y[j], max(1, groups)) for i, j in parts]
    mean = lambda *drop: sum(f.value(*drop) for f in found) / len(found)
    value = mean()
    if groups < 3:
        return value, None, None
    left = [[mean(g, None) for g in range(groups)], [mean(None, g) for g in range(groups)]]
    return value, *jackknife(left, value, None)


class Kid(Metric):
    """Keeps one feature vector a volume."""

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Kid, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.rows: dict[str, dict[str, Tensor]] = {}

    def update(self, batch: Batch, source: str) -> None:
        found = context_features(self.context, self.options.features, batch, source)
        self.rows.setdefault(source, {}).update(zip(self.names.of(batch, source), found))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Kid)
        for source, rows in other.rows.items():
            self.rows.setdefault(source, {}).update(rows)

    def compute(self) -> Result:
        o = self.options
        protocol: dict[str, Any] = {
            "definition": "unbiased squared MMD with the kernel (x.y / dim + 1)^3, against validation",
            "standardize": o.standardize,
            "block": o.block,
            "seed": self.seed,
            "n": {s: len(r) for s, r in sorted(self.rows.items())},
            "floor": FLOOR,
        }
        tables = {s: torch.stack([r for _, r in in_seeded_order(t, self.seed)]) for s, t in self.rows.items()}
        tables = {s: t for s, t in tables.items() if len(t) > 1}
        if not self.rows:
            return Result([], protocol)
        network = self.context.features(o.features)
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        if "val" not in tables:
            return Result([], protocol | {"note": "needs at least two validation volumes"})
        mean, sd = standardizer(tables["val"], o.standardize)
        protocol["dim"] = len(mean)
        tables = {s: (t - mean) / sd if o.standardize == "val" else t for s, t in tables.items()}
        val, values = tables["val"], []
        for source in SCORED:
            if source not in tables:
                continue
            rows = tables[source]
            value, low, high = kernel_distance(rows, val, o.groups, o.block)
            floor = None
            if source != "train" and "train" in tables:
                floor = kernel_distance(tables["train"][: len(rows)], val, 1, o.block)[0]
            few = [f"{len(t)} {s}" for s, t in ((source, rows), ("validation", val)) if len(t) < FEW]
            flag = f"{', '.join(few)} volumes: no bias, but a wide error" if few else ""
            how = INTERVAL if low is not None else ""
            values.append(Value("kid", value, source, "val", low, high, how, floor, len(rows), "lower", flag))
        return Result(values, protocol)
