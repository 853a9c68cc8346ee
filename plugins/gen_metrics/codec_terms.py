"""The codec's own measures of validation volumes: KL of the posterior, perceptual distance where it has weights."""

from __future__ import annotations

import torch

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result
from gen_metrics import metric_options as opt
from gen_metrics.psnr import mean_value
from gen_metrics.streams import Names


class CodecTerms(Metric):
    """What `codec.terms` says, a volume at a time, then the mean; none for a codec that says nothing."""

    sources = ("reconstruction",)
    needs = ("pairs", "codec")

    def __init__(self, options: opt.CodecTerms, context: MetricContext):
        self.context, self.seed = context, context.seed
        self.names = Names()
        self.tables: dict[str, dict[str, float]] = {}

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        codec = self.context.codec()
        for i, name in enumerate(self.names.of(batch, source)):
            x_hat = batch.x[i : i + 1]
            for term, value in codec.terms(batch.reference[i : i + 1].to(x_hat), x_hat).items():
                self.tables.setdefault(term, {})[name] = float(value)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, CodecTerms)
        for term, table in other.tables.items():
            self.tables.setdefault(term, {}).update(table)

    def compute(self) -> Result:
        values = [
            mean_value(term, table, self.seed, "reconstruction", "val", "lower") for term, table in self.tables.items()
        ]
        protocol = {"definition": "mean over volumes of the codec's own terms, unweighted", "seed": self.seed}
        return Result(values, protocol if values else protocol | {"note": "this codec says nothing of itself"})
