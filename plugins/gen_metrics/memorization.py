"""Memorization: is a sample nearer to a training volume than validation volumes are?

Share of samples whose nearest training volume (mirrored too) is nearer than the 1 % quantile of the
validation-to-training distances, with a one-sided binomial test against 1 %. An audit plants copies of training
volumes (noisy, and noisy and mirrored) and says how many the same search finds: a search that finds no planted copies
proves nothing by finding no real ones.

Source: the distance comparison follows Meehan et al. 2020 (data-copying); neighbours are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.fid import standardizer
from gen_metrics.intervals import clopper_pearson
from gen_metrics.neighbours import nearest_of_views
from gen_metrics.streams import Names, batch_features, draw_key, features_treatment, volume_features

ENOUGH_VALIDATION = 100  # volumes; with fewer the 1 % quantile is no more than a guess
FOUND_ENOUGH = 0.95  # of the planted copies


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial distribution: the exact one-sided p-value."""
    from scipy.stats import binom

    return float(binom.sf(k - 1, n, p)) if n else 1.0


def tail_with_estimated_quantile(k: int, n: int, reference: int, p: float) -> float:
    """The same tail when the quantile itself comes from `reference` values: beta-binomial, so wider.

    The r-th smallest of m values has a share Beta(r, m + 1 - r) of the distribution below it; r = p (m + 1).
    """
    from scipy.stats import betabinom

    r = min(max(p * (reference + 1), 1e-9), reference)
    return float(betabinom.sf(k - 1, n, r, reference + 1 - r)) if n else 1.0


class Memorization(Metric):
    """Keeps one feature vector a volume (two for queries: plain and mirrored)."""

    sources = ("train", "val", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Memorization, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.train: dict[str, Tensor] = {}
        self.queries: dict[str, dict[str, list[Tensor]]] = {"val": {}, "synthetic": {}}
        self.planted: dict[str, dict[str, list[Tensor]]] = {"noisy": {}, "mirrored": {}}
        total = context.counts.get("train", 0) if getattr(context, "counts", None) else 0
        self.share = 1.0 if total <= options.planted else options.planted / total

    def _views(self, network: Any, x: Tensor) -> list[Tensor]:
        device = getattr(self.context, "device", None)
        views = [x, x.flip(-1)] if self.options.mirror else [x]
        return [volume_features(network, v, device) for v in views]

    def update(self, batch: Batch, source: str) -> None:
        network = self.context.features(self.options.features)
        device = getattr(self.context, "device", None)
        names = self.names.of(batch, source)
        features = batch_features(network, batch, device)
        if source == "train":
            self.train.update(zip(names, features))
            self._plant(network, batch, names)
            return
        views = [features]
        if self.options.mirror:
            views.append(batch_features(network, batch, device, mirrored=True))
        self.queries[source].update({n: [v[i] for v in views] for i, n in enumerate(names)})

    def _plant(self, network: Any, batch: Batch, names: list[str]) -> None:
        """Features of noisy (and mirrored) copies of the training volumes that a seeded hash picks."""
        if self.options.planted == 0:
            return
        chosen = [i for i, n in enumerate(names) if draw_key(self.seed + 2, n) < self.share * 2**64]
        if not chosen:
            return
        copies = []
        for i in chosen:
            g = np.random.default_rng([abs(self.seed), draw_key(self.seed + 3, names[i])])
            noise = g.standard_normal(tuple(batch.x[i].shape), dtype=np.float32)
            copies.append(batch.x[i].cpu() + self.options.noise * torch.from_numpy(noise))
        x = torch.stack(copies).clamp(-1, 1)
        # the mirrored copy's views are the noisy copy's views exchanged: no network needs to run for them
        views = self._views(network, x)
        flipped = views[::-1] if len(views) > 1 else [volume_features(network, x.flip(-1))]
        for kind, of_kind in (("noisy", views), ("mirrored", flipped)):
            self.planted[kind].update({names[i]: [v[j] for v in of_kind] for j, i in enumerate(chosen)})

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Memorization)
        self.train.update(other.train)
        for mine, theirs in ((self.queries, other.queries), (self.planted, other.planted)):
            for key, table in theirs.items():
                mine[key].update(table)

    def compute(self) -> Result:
        o = self.options
        protocol: dict[str, Any] = {
            "definition": "share of samples nearer to a training volume than the quantile of the validation-to-train "
            "distances; exact neighbours" + (", mirrored volumes searched too" if o.mirror else ""),
            "distance": o.distance,
            "standardize": o.standardize,
            "quantile": o.quantile,
            "quantile_estimator": "Weibull (r = p (n + 1)): its expected false alarms are p exactly",
            "planted_noise": o.noise,
            "seed": self.seed,
            "n": {
                "train": len(self.train),
                "val": len(self.queries["val"]),
                "synthetic": len(self.queries["synthetic"]),
            },
        }
        if not self.train or not self.queries["val"]:
            return Result([], protocol | {"note": "needs training and validation volumes"})
        network = self.context.features(o.features)
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        train_names = sorted(self.train)
        base = torch.stack([self.train[n] for n in train_names])
        val_rows = torch.stack([self.queries["val"][n][0] for n in sorted(self.queries["val"])])
        mean, sd = standardizer(val_rows if len(val_rows) > 1 else base, o.standardize)
        base = (base - mean) / sd

        def search(table: dict[str, list[Tensor]], k: int) -> tuple[list[str], Tensor, Tensor, Tensor]:
            names = sorted(table)
            views = [(torch.stack([table[n][v] for n in names]) - mean) / sd for v in range(len(table[names[0]]))]
            return names, *nearest_of_views(views, base, k, o.distance)

        _, val_d, _, _ = search(self.queries["val"], 1)
        val_d = val_d[:, 0].numpy()
        threshold = float(np.quantile(val_d, o.quantile, method="weibull"))
        protocol["threshold"] = threshold
        flag = ""
        if len(val_d) < ENOUGH_VALIDATION:
            flag = f"only {len(val_d)} validation volumes (under {ENOUGH_VALIDATION}): no verdict"
        values: list[Value] = []
        extra: dict[str, Any] = {"distances": {"val": np.sort(val_d).tolist()}, "threshold": threshold}
        audit = self._audit(search, threshold, extra)
        lowest = min((v.value for v in audit), default=1.0)
        if audit and lowest < FOUND_ENOUGH:
            found = f"the audit found only {lowest:.0%} of planted copies"
            flag = f"{flag}; {found}" if flag else found
        if self.queries["synthetic"]:
            values += self._verdict(search, threshold, val_d, train_names, flag, extra)
        return Result(values + audit, protocol, extra)

    def _audit(self, search: Any, threshold: float, extra: dict[str, Any]) -> list[Value]:
        values = []
        for kind, table in self.planted.items():
            if not table:
                continue
            _, d, _, _ = search(table, 1)
            k, n = int((d[:, 0] < threshold).sum()), len(d)
            low, high = clopper_pearson(k, n)
            name = f"planted copies found, {kind}"
            values.append(Value(name, k / n, "train", "train", low, high, "95 %, Clopper-Pearson", None, n, "higher"))
            extra["distances"][f"planted, {kind}"] = np.sort(d[:, 0].numpy()).tolist()
        return values

    def _verdict(
        self,
        search: Any,
        threshold: float,
        val_d: np.ndarray,
        train_names: list[str],
        flag: str,
        extra: dict[str, Any],
    ) -> list[Value]:
        o = self.options
        names, d, at, view = search(self.queries["synthetic"], o.neighbours)
        nearest = d[:, 0].numpy()
        k, n = int((nearest < threshold).sum()), len(nearest)
        low, high = clopper_pearson(k, n)
        p = binomial_tail(k, n, o.quantile)
        p_wide = tail_with_estimated_quantile(k, n, len(val_d), o.quantile)
        extra["distances"]["synthetic"] = np.sort(nearest).tolist()
        extra["neighbours"] = [
            {
                "id": name,
                "copy": bool(nearest[r] < threshold),
                "train": [train_names[int(j)] for j in at[r]],
                "distance": [round(float(v), 6) for v in d[r]],
                "mirrored": [bool(v) for v in view[r]],
            }
            for r, name in enumerate(names)
        ]
        share, median = k / n, float(np.median(nearest))
        values = [
            Value(
                "copies, share",
                share,
                "synthetic",
                "train",
                low,
                high,
                "95 %, Clopper-Pearson",
                o.quantile,
                n,
                "lower",
                flag,
            ),
            Value("copies, binomial test p", p, "synthetic", "train", n=n, flag=flag),
            Value("copies, p with the threshold's own error", p_wide, "synthetic", "train", n=n, flag=flag),
            Value(
                "nearest training distance, median",
                median,
                "synthetic",
                "train",
                floor=float(np.median(val_d)),
                n=n,
                better="match",
            ),
        ]
        return values
