"""Errors of reconstructions in the units of the data: HU for CT, where a reader knows what ten of them mean.

Mean absolute and mean squared error a volume, then the mean over volumes; over all voxels, and over those of a mask.
PSNR and SSIM do not depend on a scale of one range, so `psnr` and `ssim` give both: in [-1, 1] and in units.
"""

from __future__ import annotations

from typing import Any

import torch

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result
from gen_metrics import metric_options as opt
from gen_metrics.psnr import mean_value
from gen_metrics.streams import Names


class PhysicalError(Metric):
    """mae and mse in units, and `mae NAME` inside each mask of the options; scaled: mse in [-1, 1]."""

    sources = ("reconstruction",)
    needs = ("pairs",)

    def __init__(self, options: opt.PhysicalError, context: MetricContext):
        self.options, self.spec, self.seed = options, context.spec, context.seed
        scale = context.spec.scale
        # x = 1 is `half` of a range above the middle: an error in [-1, 1] times half is one in units
        self.half = torch.as_tensor((scale.hi - scale.lo) / 2, dtype=torch.float64)
        self.names = Names()
        self.tables: dict[str, dict[str, float]] = {}

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        difference = batch.x.double().cpu() - batch.reference.double().cpu()
        physical = difference * self.half
        for i, name in enumerate(self.names.of(batch, source)):
            self._note("mae", name, physical[i].abs().mean())
            self._note("mse", name, physical[i].square().mean())
            self._note("mse scaled", name, difference[i].square().mean())
            for mask in self.options.masks:
                inside = batch.masks.get(mask)
                if inside is not None and bool(inside[i].any()):
                    where = inside[i].cpu().expand_as(physical[i])
                    self._note(f"mae {mask}", name, physical[i][where].abs().mean())

    def _note(self, figure: str, name: str, value: Any) -> None:
        self.tables.setdefault(figure, {})[name] = float(value)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, PhysicalError)
        for figure, table in other.tables.items():
            self.tables.setdefault(figure, {}).update(table)

    def compute(self) -> Result:
        values = [
            mean_value(figure, table, self.seed, "reconstruction", "val", "lower")
            for figure, table in self.tables.items()
        ]
        protocol = {
            "definition": "mean over volumes of the mean absolute (mae) and squared (mse) error of decode(encode(x))",
            "units": self.spec.units or "data units",
            "mse scaled": "in [-1, 1]",
            "seed": self.seed,
        }
        return Result(values, protocol)
