"""Frechet distance of volume features between each source and validation.

Source: Heusel et al. 2017 (FID); the distance itself is in `frechet.py`. Features are those of a network of the
recipe, standardized by validation's mean and sd by default, so that no feature dominates by its unit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.frechet import extrapolate, frechet_rows
from gen_metrics.intervals import jackknife
from gen_metrics.streams import Names, batch_features, draw_key, features_treatment


def standardizer(rows: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Mean and sd of each feature (n, d), sd 1 where a feature is constant; zeros and ones for how = "none"."""
    mean = rows.mean(0)
    if how == "none":
        return torch.zeros_like(mean), torch.ones_like(mean)
    sd = rows.std(0) if len(rows) > 1 else torch.zeros_like(mean)
    return mean, torch.where(sd > 1e-12, sd, torch.ones_like(sd))


def small_flag(counts: dict[str, int], dim: int) -> str:
    """A warning when a side has no more volumes than features: the covariance is singular, the distance biased up."""
    few = [f"{n} {s}" for s, n in counts.items() if n <= dim]
    return f"{', '.join(few)} volumes for {dim} features: biased upwards" if few else ""


class Fid(Metric):
    """Keeps one feature vector a volume; sorted by a seeded hash of the id, so that order never matters."""

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Fid, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.rows: dict[str, dict[str, Tensor]] = {}

    def update(self, batch: Batch, source: str) -> None:
        network = self.context.features(self.options.features)
        features = batch_features(network, batch, getattr(self.context, "device", None))
        self.rows.setdefault(source, {}).update(zip(self.names.of(batch, source), features))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Fid)
        for source, rows in other.rows.items():
            self.rows.setdefault(source, {}).update(rows)

    def table(self, source: str) -> Tensor:
        """(N, dim) features of a source, in seeded random order."""
        rows = self.rows.get(source, {})
        names = sorted(rows, key=lambda name: (draw_key(self.seed, name), name))
        return torch.stack([rows[n] for n in names]) if names else torch.zeros(0, 1, dtype=torch.float64)

    def _interval(self, a: Tensor, b: Tensor, value: float) -> tuple[float | None, float | None]:
        groups = min(self.options.groups, len(a) // 2, len(b) // 2)
        if groups < 3:
            return None, None
        left = []
        for one, two in ((a, b), (b, a)):
            keep = torch.arange(len(one)) % groups
            left.append([frechet_rows(one[keep != g], two) for g in range(groups)])
        return jackknife(left, value)

    def compute(self) -> Result:
        val = self.table("val")
        values: list[Value] = []
        extra: dict[str, Any] = {}
        protocol: dict[str, Any] = {
            "definition": "Frechet distance of Gaussians fitted to one feature vector a volume, against validation",
            "standardize": self.options.standardize,
            "seed": self.seed,
            "n": {s: len(r) for s, r in sorted(self.rows.items())},
            "floor": "training against validation, with as many training volumes as the scored source has",
        }
        if not self.rows:
            return Result([], protocol)
        network = self.context.features(self.options.features)
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        if len(val) < 2:
            return Result([], protocol | {"note": "needs at least two validation volumes"})
        mean, sd = standardizer(val, self.options.standardize)
        tables = {s: (self.table(s) - mean) / sd for s in self.rows if len(self.rows[s]) >= 2}
        val, train = tables["val"], tables.get("train")
        for source in ("train", "reconstruction", "synthetic"):
            if source not in tables:
                continue
            rows = tables[source]
            value = frechet_rows(rows, val)
            low, high = self._interval(rows, val, value)
            floor = None
            if source != "train" and train is not None:
                floor = frechet_rows(train[: max(2, len(rows))], val)
            flag = small_flag({source: len(rows), "validation": len(val)}, val.shape[1])
            interval = "95 %, delete-a-group jackknife over volumes" if low is not None else ""
            values.append(Value("fid", value, source, "val", low, high, interval, floor, len(rows), "lower", flag))
            if self.options.extrapolate and len(rows) >= 32 and len(rows) > 2 * val.shape[1]:
                extra[source] = self._curve(rows, val)
        protocol["dim"] = val.shape[1]
        return Result(values, protocol, {"over_n": extra} if extra else {})

    def _curve(self, rows: Tensor, val: Tensor) -> dict[str, Any]:
        """Values at N, mean over disjoint subsets of both sides, and the line over 1/N."""
        most = min(len(rows), len(val))
        ns = sorted({most // k for k in (4, 3, 2, 1) if most // k > val.shape[1]})
        points = []
        for n in ns:
            parts = [frechet_rows(rows[i : i + n], val[i : i + n]) for i in range(0, most - n + 1, n)]
            points.append(sum(parts) / len(parts))
        if len(ns) < 2:
            return {"n": ns, "value": points}
        limit, slope = extrapolate([float(n) for n in ns], points)
        return {"n": ns, "value": points, "limit": limit, "slope": slope}
