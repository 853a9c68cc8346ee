"""Structural similarity of reconstructions, 2-D in every slice or band, then the mean."""

from __future__ import annotations

import torch

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result
from gen_metrics import metric_options as opt
from gen_metrics.psnr import mean_value
from gen_metrics.similarity import ssim
from gen_metrics.streams import Names

BANDS = 16  # compared at once


class Ssim(Metric):
    """Volumes are shifted to [0, 2] first: SSIM's luminance term is defined for intensities from black up."""

    sources = ("reconstruction",)
    needs = ("pairs",)

    def __init__(self, options: opt.Ssim, context: MetricContext):
        self.options, self.seed = options, context.seed
        self.names = Names()
        self.table: dict[str, float] = {}

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o = self.options
        reference = batch.reference.to(batch.x)
        for i, name in enumerate(self.names.of(batch, source)):
            # a few bands at a time: the maps of a whole large volume would take sixteen times its memory
            bands = zip(batch.x[i].split(BANDS, 1), reference[i].split(BANDS, 1))
            each = torch.cat([ssim(a.float() + 1, b.float() + 1, 2.0, o.window, o.sigma, dims=2) for a, b in bands], 1)
            self.table[name] = float(each.double().mean())

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Ssim)
        self.table.update(other.table)

    def compute(self) -> Result:
        values = []
        if self.table:
            values.append(mean_value("ssim", self.table, self.seed, "reconstruction", "val", "higher"))
        protocol = {
            "definition": "2-D SSIM of each band, x + 1 in [0, 2], range 2, no padding; mean over bands, then volumes",
            "window": self.options.window,
            "sigma": self.options.sigma,
            "K": [0.01, 0.03],
        }
        return Result(values, protocol)
