"""Peak signal-to-noise ratio of reconstructions: 10 log10(2^2 / MSE), a volume at a time, then the mean."""

from __future__ import annotations

from typing import Any

import torch

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import bootstrap_mean
from gen_metrics.streams import Names

LEAST_MSE = 1e-10  # an exact copy counts as 106 dB: infinity cannot be averaged


def decibel(mse: float) -> float:
    """PSNR in dB of a mean squared error, range 2."""
    import math

    return 10.0 * math.log10(4.0 / max(mse, LEAST_MSE))


class Psnr(Metric):
    """psnr (all voxels) and psnr inside (voxels of the mask `valid`)."""

    sources = ("reconstruction",)
    needs = ("pairs",)

    def __init__(self, options: opt.Psnr, context: MetricContext):
        self.seed = context.seed
        self.names = Names()
        self.whole: dict[str, float] = {}
        self.inside: dict[str, float] = {}

    def update(self, batch: Batch, source: str) -> None:
        names = self.names.of(batch, source)
        reference, valid = batch.reference.to(batch.x), batch.masks.get("valid")
        for i, name in enumerate(names):
            masked = valid is not None and bool(valid[i].any())
            mask = valid[i].to(batch.x.device).expand_as(batch.x[i]) if masked else None
            total = inside = 0.0
            for k in range(batch.x.shape[2]):  # slice by slice: in float64 a large volume would be there four times
                square = (batch.x[i, :, k].double() - reference[i, :, k].double()).square()
                total += float(square.sum())
                inside += float(square[mask[:, k]].sum()) if mask is not None else 0.0
            self.whole[name] = decibel(total / batch.x[i].numel())
            if mask is not None:
                self.inside[name] = decibel(inside / int(mask.sum()))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Psnr)
        self.whole.update(other.whole)
        self.inside.update(other.inside)

    def compute(self) -> Result:
        values = []
        for name, table in (("psnr", self.whole), ("psnr inside", self.inside)):
            if table:
                values.append(mean_value(name, table, self.seed, "reconstruction", "val", "higher"))
        protocol: dict[str, Any] = {
            "definition": "mean over volumes of 10 log10(4 / MSE), dB; 'inside': voxels of the mask 'valid'",
            "range": 2.0,
            "seed": self.seed,
        }
        return Result(values, protocol)


def mean_value(name: str, table: dict[str, float], seed: int, source: str, against: str, better: str) -> Value:
    """The mean of one figure a volume, with its bootstrap interval; independent of the order of volumes."""
    rows = torch.tensor(sorted(table.values()), dtype=torch.float64)
    low, high = bootstrap_mean(rows.tolist(), seed)
    flag = "" if len(rows) >= 10 else f"only {len(rows)} volumes"
    return Value(
        name,
        float(rows.mean()),
        source,
        against,
        low,
        high,
        "95 %, bootstrap over volumes",
        None,
        len(rows),
        better,
        flag,
    )
