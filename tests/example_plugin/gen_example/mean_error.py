"""The mean absolute error of reconstructions, with its standard error over volumes."""

from __future__ import annotations

import numpy as np
from gen_core.metric import Metric, Result, Value

from gen_example.options import MeanError


class MeanErrorMetric(Metric):
    """mean |x_hat - x| ^ power over volumes."""

    sources = ("reconstruction",)
    needs = ("pairs",)

    def __init__(self, options: MeanError, context):
        self.power, self.by_id = options.power, {}

    def update(self, batch, source):
        errors = (batch.x - batch.reference).abs() ** self.power
        self.by_id |= dict(zip(batch.ids, errors.double().flatten(1).mean(1).tolist()))

    def merge(self, other):
        self.by_id |= other.by_id

    def compute(self):
        errors = np.array([self.by_id[name] for name in sorted(self.by_id)])
        mean, half = errors.mean(), 1.96 * errors.std() / np.sqrt(len(errors))
        value = Value("mean-error", mean, "reconstruction", low=mean - half, high=mean + half)
        value.interval, value.n, value.better = "mean +- 1.96 standard errors", len(errors), "lower"
        return Result([value], protocol={"power": self.power, "volumes": len(errors)})
