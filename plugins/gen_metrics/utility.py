"""Usefulness: how well probes tell a condition of real volumes, by what their features were pre-trained on.

Each probe is a [features] table that was fitted on labelled training volumes, on features pre-trained with real
volumes, synthetic ones or both. Scored are validation volumes: area under the ROC curve with DeLong's interval, and
the gain over the first probe with the paired test. Where the data set knows the best possible observer, its area
stands beside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.delong import areas, holm, interval, paired
from gen_metrics.streams import Names, batch_features

ENOUGH = 10  # volumes of each class; with fewer the normal approximation is no more than a guess


class Utility(Metric):
    """Keeps one score a probe and the label of each validation volume."""

    sources = ("val",)
    needs = ("features",)

    def __init__(self, options: opt.Utility, context: MetricContext):
        self.options, self.context = options, context
        self.names = Names()
        self.rows: dict[str, tuple[float, ...]] = {}  # volume -> label, then a score of each probe

    def update(self, batch: Batch, source: str) -> None:
        label = self.options.label
        if label not in batch.condition:
            known = ", ".join(sorted(batch.condition)) or "none"
            raise RecipeError(
                f"[metrics] utility, label = '{label}': volumes have no such condition; they have {known}"
            )
        device = getattr(self.context, "device", None)
        columns = [batch.condition[label].double().cpu()]
        for table in self.options.probes:
            network = self.context.features(table)
            if network.dim != 1 or network.protocol().get("label", label) != label:
                raise RecipeError(f"[metrics] utility, probes: [{table}] is no probe of '{label}'")
            columns.append(batch_features(network, batch, device)[:, 0])
        rows = torch.stack(columns, 1).tolist()
        self.rows.update(zip(self.names.of(batch, source), map(tuple, rows)))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Utility)
        self.rows.update(other.rows)

    def compute(self) -> Result:
        o = self.options
        table = np.array([self.rows[name] for name in sorted(self.rows)], np.float64).reshape(-1, 1 + len(o.probes))
        present, scores = table[:, 0] > 0.5, table[:, 1:].T
        counts = {"present": int(present.sum()), "absent": int((~present).sum())}
        protocol: dict[str, Any] = {
            "definition": "area under the ROC curve of a probe's logit on validation volumes; the probe was fitted on "
            "training volumes; DeLong 1988: interval of an area, paired test of a gain over the first probe",
            "label": o.label,
            "n": counts,
        }
        ceiling = getattr(self.context, "prepared", {}).get("ceilings", {}).get(o.label)
        if ceiling:
            protocol["ceiling"] = ceiling
        if min(counts.values()) == 0:
            return Result([], protocol | {"note": "needs validation volumes with and without the label"})
        protocol["probes"] = {t: self.context.features(t).protocol() for t in o.probes}
        few = [f"{n} {name}" for name, n in counts.items() if n < ENOUGH]
        flag = f"only {', '.join(few)} (under {ENOUGH}): the interval is a guess" if few else ""
        auc, covariance = areas(scores, present)
        values = [self._area(i, auc, covariance, len(present), flag) for i in range(len(o.probes))]
        gains, comparisons = self._gains(auc, covariance, len(present), flag)
        return Result(values + gains + self._ceiling(ceiling, len(present)), protocol, {"comparisons": comparisons})

    def _area(self, i: int, auc: np.ndarray, covariance: np.ndarray | None, n: int, flag: str) -> Value:
        low = high = None
        how = ""
        if covariance is not None:
            (low, high), how = interval(float(auc[i]), float(covariance[i, i])), "95 %, DeLong"
            if covariance[i, i] <= 0:
                flag = flag or "the classes do not overlap: the interval has no width"
        return Value(
            f"auc, {_short(self.options.probes[i])}", float(auc[i]), "val", "", low, high, how, None, n, "higher", flag
        )

    def _gains(
        self, auc: np.ndarray, covariance: np.ndarray | None, n: int, flag: str
    ) -> tuple[list[Value], list[dict[str, Any]]]:
        """Each probe after the first against it; p values as they are and corrected for their number (Holm)."""
        probes = self.options.probes
        values, rows = [], []
        for i in range(1, len(probes)) if covariance is not None else ():
            gain, variance, p = paired(auc, covariance, i, 0)
            low, high = interval(gain, variance, -1.0, 1.0)
            name = f"auc gain, {_short(probes[i])} over {_short(probes[0])}"
            values.append(Value(name, gain, "val", "", low, high, "95 %, paired DeLong", None, n, "higher", flag))
            rows.append({"probe": probes[i], "over": probes[0], "gain": gain, "p": p})
        corrected = iter(holm([row["p"] for row in rows if row["p"] is not None]))
        return values, [{**row, "p_holm": None if row["p"] is None else next(corrected)} for row in rows]

    def _ceiling(self, ceiling: dict[str, Any] | None, n: int) -> list[Value]:
        """The best observer's area over all eyes, and on these volumes where they are the whole split."""
        if not ceiling:
            return []
        values = [Value("auc, ceiling", ceiling["auc"], better="higher")]
        on_val = ceiling.get("splits", {}).get("val")
        whole = getattr(self.context, "prepared", {}).get("volumes", {}).get("val") == n
        if on_val is not None and whole:
            values.append(Value("auc, ceiling on these volumes", on_val, "val", n=n, better="higher"))
        return values


def _short(table: str) -> str:
    return table.removeprefix("features.")
