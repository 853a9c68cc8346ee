"""Samples a second and where the time of the run went: from measured times, so it goes to the cost, not the scores."""

from __future__ import annotations

from typing import Any

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt


def _number(table: Any, *names: str) -> float | None:
    for name in names:
        found = table.get(name) if isinstance(table, dict) else None
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            return float(found)
    return None


class Throughput(Metric):
    """Reads context.cost; wants no volumes."""

    sources = ()

    def __init__(self, options: opt.Throughput, context: MetricContext):
        self.context = context

    def update(self, batch: Batch, source: str) -> None:
        """Nothing to take in."""

    def merge(self, other: Metric) -> None:
        """Nothing to take over."""

    def compute(self) -> Result:
        cost = getattr(self.context, "cost", None) or {}
        steps = cost.get("steps", cost)
        values: list[Value] = []
        sample = steps.get("sample", {})
        volumes, seconds = _number(sample, "volumes", "n"), _number(sample, "seconds")
        if volumes and seconds:
            n = int(volumes)
            values.append(Value("samples a second", volumes / seconds, "synthetic", n=n, better="higher"))
            decode = _number(sample, "decode_seconds")
            if decode is not None and 0 < decode < seconds:
                rate = volumes / (seconds - decode)
                values.append(Value("samples a second, without decoding", rate, "synthetic", n=n, better="higher"))
                values.append(Value("decoding, share of sampling", decode / seconds, "synthetic", n=n, better="lower"))
        for name, table in steps.items():
            spent = _number(table, "seconds")
            if spent is not None:
                values.append(Value(f"seconds, {name}", spent, better="lower"))
        return Result(values, {"definition": "volumes of the sample step over its wall-clock seconds"}, timing=True)
