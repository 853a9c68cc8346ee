"""Memorization: is a sample nearer to a training volume than validation volumes are?

Share of samples whose nearest training volume is nearer than the 1 % quantile of the validation-to-training
distances, with a one-sided binomial test against 1 %. Samples are searched mirrored too, and training volumes cropped
too; the distance is learned from altered training volumes, so that a shift or a crop counts for little
(`discriminant.py`). An audit decides whether there is a verdict: it plants copies of training volumes (exact, flipped,
shifted, noisy, cropped; reconstructed where there is a codec, because a prior that remembers a latent decodes it) and
counts false alarms on held-out subjects (`audit.py`).

A sampler that favours the middle of the distribution comes near to many training volumes without copying any. A copy
is much nearer to one of them than to the next: so of the samples under the threshold those are told apart that also
stand out, whose nearest distance over the mean of the next ones is under the same quantile of validation's.

Source: the distance comparison follows Meehan et al. 2020 (data-copying), the relative distance Carlini et al. 2023
(extracting training data from diffusion models, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.alterations import altered, central_crop, features_of_versions
from gen_metrics.audit import (
    ENOUGH_VALIDATION,
    FOUND_ENOUGH,
    SURE,
    binomial_tail,
    false_alarms,
    halves,
    lesson_kinds,
    objections,
    planted_kinds,
    tail_with_estimated_quantile,
    threshold_of,
    told,
)
from gen_metrics.discriminant import learn
from gen_metrics.fid import standardizer
from gen_metrics.intervals import clopper_pearson
from gen_metrics.neighbours import Neighbours, nearest_of_views
from gen_metrics.streams import Names, context_features, draw_key, features_treatment

CP = "95 %, Clopper-Pearson"
RECONSTRUCTED, ALTERED = "reconstructed", "altered"
Views = list[Tensor]  # feature vectors (d,) of one volume: plain, mirrored


def relative(d: np.ndarray) -> np.ndarray:
    """(n,) nearest distance over the mean of the next ones of d (n, k) rising; 1 where there is no next one."""
    if d.shape[1] < 2:
        return np.ones(len(d))
    return d[:, 0] / np.maximum(d[:, 1:].mean(1), 1e-300)


@frozen(eq=False)
class Search:
    """The nearest training volumes of any table of views, and what validation says of distances."""

    train: list[str]
    find: Callable[[dict[str, Views], int], tuple[list[str], Tensor, Tensor, Tensor]]
    val: np.ndarray  # nearest training distance of each validation volume, by rising name
    threshold: float
    relative_threshold: float
    method: dict[str, Any]


class Memorization(Metric):
    """Keeps a few feature vectors a volume: queries plain and mirrored, training volumes plain and cropped."""

    sources = ("train", "val", "reconstruction-train", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Memorization, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.train: dict[str, list[Tensor]] = {}
        self.queries: dict[str, dict[str, Views]] = {"val": {}, "synthetic": {}}
        self.subjects: dict[str, str] = {}  # of validation volumes
        strengths = (options.noise, options.shift, options.crop)
        self.kinds, self.lessons = planted_kinds(*strengths), lesson_kinds(*strengths)
        self.planted: dict[str, dict[str, Views]] = {kind: {} for kind in (*self.kinds, RECONSTRUCTED)}
        self.lesson_rows: dict[str, dict[str, list[Tensor]]] = {}  # of altered training volumes, to learn from
        total = context.counts.get("train", 0) if getattr(context, "counts", None) else 0
        share = lambda wanted: wanted / max(total, wanted, 1)
        # a number drawn by id decides: the lowest are planted, the highest learned from, none is both
        self.planted_below = min(share(options.planted), 0.5)
        self.learned_above = max(1 - share(options.learn), self.planted_below) if options.metric == "learned" else 1.0

    def update(self, batch: Batch, source: str) -> None:
        names = self.names.of(batch, source)
        if source == "reconstruction-train":
            self._reconstructed(batch.x, names)
            return
        features = context_features(self.context, self.options.features, batch, source)
        if source == "train":
            for name, x, plain in zip(names, batch.x, features):
                crops = [central_crop(x, share) for share in self.options.search_crops]
                self.train[name] = [plain, *self._features(crops)]
                self._plant(x, name, plain)
            return
        views = [features]
        if self.options.mirror:
            views.append(context_features(self.context, self.options.features, batch, source, mirrored=True))
        self.queries[source].update({n: [v[i] for v in views] for i, n in enumerate(names)})
        if source == "val":
            self.subjects.update(zip(names, batch.subjects or names))

    def _features(self, versions: list[Tensor]) -> list[Tensor]:
        """Features of altered versions (C, D, H, W) of one volume."""
        network = self.context.features(self.options.features)
        return features_of_versions(network, versions, getattr(self.context, "device", None))

    def _drawn(self, name: str) -> tuple[bool, bool]:
        """Whether copies of this training volume are planted, and whether the distance learns from them; never both."""
        drawn = draw_key(self.seed + 2, name) / 2**64
        return drawn < self.planted_below, drawn >= self.learned_above

    def _reconstructed(self, x: Tensor, names: list[str]) -> None:
        """Copies made by the codec, of the volumes that `_plant` alters too."""
        for name, copy in zip(names, x):
            planted, taught = self._drawn(name)
            if planted:
                views = self._features([copy, copy.flip(-1)] if self.options.mirror else [copy])
                self.planted[RECONSTRUCTED][name] = views
            if taught:
                self.lesson_rows.setdefault(RECONSTRUCTED, {})[name] = self._features([copy])

    def _plant(self, x: Tensor, name: str, plain: Tensor) -> None:
        """Altered copies of the training volumes that a seeded hash picks: to be found, or to learn from."""
        planted, taught = self._drawn(name)
        if planted:
            # exact and flipped copies are each other's mirror images: no network needs to run for a second view
            kinds = [k for k in self.kinds if k not in ("exact", "flipped")]
            copies = [altered(x, k, self.kinds[k], self.seed + 3, name) for k in kinds]
            found = self._features([x.flip(-1), *(view for c in copies for view in (c, c.flip(-1)))])
            views = {"exact": [plain, found[0]], "flipped": [found[0], plain]}
            views |= {k: found[1 + 2 * i : 3 + 2 * i] for i, k in enumerate(kinds)}
            for kind in self.kinds:
                self.planted[kind][name] = views[kind] if self.options.mirror else views[kind][:1]
        if taught:
            copies = [altered(x, kind, a, self.seed + 3, name) for kind, a in self.lessons.items()]
            self.lesson_rows.setdefault(ALTERED, {})[name] = self._features(copies)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Memorization)
        self.train.update(other.train)
        self.subjects.update(other.subjects)
        for mine, theirs in (
            (self.queries, other.queries),
            (self.planted, other.planted),
            (self.lesson_rows, other.lesson_rows),
        ):
            for key, table in theirs.items():
                mine.setdefault(key, {}).update(table)

    def _differences(self) -> Tensor | None:
        """(m, d) altered - original features of the training volumes to learn from; None where there are none.

        Reconstructions count twice: they are the likeliest copies, and two of the alterations are shifts.
        """
        found = [
            row - self.train[name][0]
            for kind, table in sorted(self.lesson_rows.items())
            for name, rows in sorted(table.items())
            if name in self.train
            for row in (rows * 2 if kind == RECONSTRUCTED else rows)
        ]
        return torch.stack(found) if found else None

    def _search(self) -> Search:
        """The distance, the search and the threshold; needs training and validation volumes."""
        o = self.options
        train = sorted(self.train)
        bases = [torch.stack([self.train[n][v] for n in train]) for v in range(1 + len(o.search_crops))]
        val = torch.stack([self.queries["val"][n][0] for n in sorted(self.queries["val"])])
        mean, sd = standardizer(val if len(val) > 1 else bases[0], o.standardize)
        place: Callable[[Tensor], Tensor] = lambda rows: (rows - mean) / sd
        moved = self._differences()
        if moved is not None:
            discriminant = learn(place(bases[0]), moved / sd)
            plain, place = place, lambda rows: discriminant(plain(rows))
        searches = [Neighbours(place(b), o.distance, o.search, self.seed) for b in bases]

        def find(table: dict[str, Views], k: int) -> tuple[list[str], Tensor, Tensor, Tensor]:
            names = sorted(table)
            views = [place(torch.stack([table[n][v] for n in names])) for v in range(len(table[names[0]]))]
            d, at, view, _ = nearest_of_views(views, searches, k)
            return names, d, at, view

        d = find(self.queries["val"], o.neighbours)[1].numpy()
        method = {"search": searches[0].method, "recall": searches[0].recall(place(val), o.neighbours)}
        thresholds = threshold_of(d[:, 0], o.quantile), threshold_of(relative(d), o.quantile)
        return Search(train, find, d[:, 0], *thresholds, method)

    def compute(self) -> Result:
        protocol = self._protocol()
        if not self.train or not self.queries["val"]:
            return Result([], protocol | {"note": "needs training and validation volumes"})
        network = self.context.features(self.options.features)
        search = self._search()
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        protocol |= {"threshold": search.threshold, "relative_threshold": search.relative_threshold, **search.method}
        extra: dict[str, Any] = {
            "distances": {"val": np.sort(search.val).tolist()},
            "threshold": search.threshold,
            "stand_out": {},  # of the planted copies, by kind: the share under both thresholds
        }
        audit, why = self._audit(search, extra)
        flag = f"no verdict: {'; '.join(why)}" if why else ""
        extra["verdict"] = {"given": not why, "why_not": why}
        values = self._verdict(search, flag, extra) if self.queries["synthetic"] else []
        return Result(values + audit, protocol, extra)

    def judge(self) -> dict[str, str]:
        """Samples under the threshold; also where there is no verdict, because setting one aside harms nobody."""
        if not self.train or not self.queries["val"] or not self.queries["synthetic"]:
            return {}
        search = self._search()
        names, d, at, view = search.find(self.queries["synthetic"], self.options.neighbours)
        alone = relative(d.numpy()) < search.relative_threshold
        return {
            name: f"near training volume {search.train[int(at[r, 0])]}{', mirrored' if view[r, 0] else ''}: distance "
            f"{float(d[r, 0]):.4g} under the threshold of {search.threshold:.4g}"
            f"{', much nearer than to any other' if alone[r] else ''}"
            for r, name in enumerate(names)
            if d[r, 0] < search.threshold
        }

    def _audit(self, search: Search, extra: dict[str, Any]) -> tuple[list[Value], list[str]]:
        o = self.options
        values, found = [], {}
        for kind, table in self.planted.items():
            if not table:
                continue
            d = search.find(table, o.neighbours)[1].numpy()
            under = d[:, 0] < search.threshold
            k, n = int(under.sum()), len(d)
            found[kind] = k / n
            ends = clopper_pearson(k, n)
            name = f"planted copies found, {kind}"
            values.append(Value(name, k / n, "train", "train", *ends, CP, n=n, better="higher"))
            extra["distances"][f"planted, {kind}"] = np.sort(d[:, 0]).tolist()
            extra["stand_out"][kind] = float((under & (relative(d) < search.relative_threshold)).mean())
        names = sorted(self.queries["val"])
        alarms = false_alarms(dict(zip(names, search.val.tolist())), halves(self.subjects, self.seed + 4), o.quantile)
        if alarms is not None:
            extra["false_alarms"] = told(alarms)
            at = ("val", "train", alarms.low, alarms.high, CP, o.quantile, alarms.n)
            values.append(Value("false alarms on held-out subjects", alarms.share, *at, "lower"))
        return values, objections(found, alarms, len(search.val), o.quantile)

    def _verdict(self, search: Search, flag: str, extra: dict[str, Any]) -> list[Value]:
        o = self.options
        names, d, at, view = search.find(self.queries["synthetic"], o.neighbours)
        nearest, val = d[:, 0].numpy(), np.sort(search.val)
        # the share of held-out volumes that come as near, this sample counted among them
        scores = (1 + np.searchsorted(val, nearest, side="right")) / (1 + len(val))
        under = nearest < search.threshold
        alone = under & (relative(d.numpy()) < search.relative_threshold)
        extra["distances"]["synthetic"] = np.sort(nearest).tolist()
        extra["neighbours"] = [
            {
                "id": name,
                "copy": bool(under[r]),
                "stands_out": bool(alone[r]),
                "p": round(float(scores[r]), 6),
                "train": [search.train[int(j)] for j in at[r]],
                "distance": [round(float(v), 6) for v in d[r]],
                "mirrored": [bool(v) for v in view[r]],
            }
            for r, name in enumerate(names)
        ]
        k, out, n, pair = int(under.sum()), int(alone.sum()), len(nearest), ("synthetic", "train")
        wide, wide_out = (tail_with_estimated_quantile(c, n, len(val), o.quantile) for c in (k, out))
        if not flag:
            extra["verdict"]["copies"] = bool(max(wide, wide_out) < SURE)
        share = lambda name, c: Value(name, c / n, *pair, *clopper_pearson(c, n), CP, o.quantile, n, "lower", flag)
        medians = [float(np.median(v)) for v in (nearest, val)]
        return [
            share("copies, share", k),
            Value("copies, binomial test p", binomial_tail(k, n, o.quantile), *pair, n=n, flag=flag),
            Value("copies, p with the threshold's own error", wide, *pair, n=n, flag=flag),
            share("copies that stand out, share", out),
            Value("copies that stand out, p with the threshold's own error", wide_out, *pair, n=n, flag=flag),
            Value("nearest training distance, median", medians[0], *pair, floor=medians[1], n=n, better="match"),
        ]

    def _protocol(self) -> dict[str, Any]:
        o = self.options
        return {
            "definition": "share of samples nearer to a training volume than the quantile of the validation-to-train "
            "distances" + (", mirrored volumes searched too" if o.mirror else ""),
            "distance": o.distance,
            "metric": "learned: discriminant of altered training volumes" if self.lesson_rows else "plain",
            "standardize": o.standardize,
            "quantile": o.quantile,
            "quantile_estimator": "Weibull (r = p (n + 1)): its expected false alarms are p exactly",
            "search_crops": list(o.search_crops),
            "audit": {
                "planted": [kind for kind, table in self.planted.items() if table],
                "noise": o.noise,
                "shift": o.shift,
                "crop": o.crop,
                "passed_at": FOUND_ENOUGH,
                "validation_at_least": ENOUGH_VALIDATION,
                "false_alarms": "threshold from one half of the validation subjects, counted on the other, both ways",
            },
            "seed": self.seed,
            "n": {
                "train": len(self.train),
                "val": len(self.queries["val"]),
                "synthetic": len(self.queries["synthetic"]),
                "learned_from": len(set().union(*self.lesson_rows.values())),
            },
        }
