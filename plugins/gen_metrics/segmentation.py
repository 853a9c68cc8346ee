"""How well a segmenter finds structures: precision, recall and Dice of validation volumes that have masks.

Each class is scored twice: as it is found at `threshold`, and after the post-processing that makes sampled spectra
trustworthy (postprocess.py). Figures are means over volumes, each volume scored by its own pixels; where observers
differ, a second observer's masks say how well one person agrees with another.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import bootstrap_mean
from gen_metrics.postprocess import round_field, sure_pixels
from gen_metrics.streams import Names, mask_union, segment, structure_probability

STAGES = ("before", "after")
FEW = 5  # volumes under which an interval over volumes says little
Overlap = tuple[int, int, int]
"""Pixels that are in both, in the found structure, in the true one."""


def overlap(found: Tensor, true: Tensor) -> Overlap:
    """found, true: (H, W) bool."""
    return int((found & true).sum()), int(found.sum()), int(true.sum())


def score(kind: str, counts: Overlap) -> float | None:
    """Precision, recall or Dice of pixel counts; None where it is not defined."""
    both, found, true = counts
    part, whole = {"precision": (both, found), "recall": (both, true), "dice": (2 * both, found + true)}[kind]
    return part / whole if whole else None


class Segmentation(Metric):
    """Keeps three pixel counts a volume, class and stage. `all`: the counts of a volume's classes together.

    extra["table"]: one row a class and stage, {"class", "stage", "n", "precision": {"mean", "sd", "n"}, "recall",
    "dice"}; extra["volumes"]: id -> class -> Dice before, and between observers and against the second where known.
    """

    sources = ("val",)
    needs = ("segmenter", "masks")

    def __init__(self, options: opt.Segmentation, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.field = round_field(*context.spec.size[1:], options.rim, options.centre)
        self.names = Names()
        self.counts: dict[str, dict[tuple[str, str], Overlap]] = {}  # volume -> (class, stage) -> pixels
        self.unmasked: Counter[str] = Counter()  # volumes without masks of a class

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o = self.options
        segmenter = self.context.segmenter(o.segmenter)
        p = segment(segmenter, batch, getattr(self.context, "device", None))
        names = self.names.of(batch, source)
        for cls, members in o.classes.items():
            true = mask_union(batch, tuple(members))
            if true is None:
                self.unmasked[cls] += len(batch)
                continue
            p_class = structure_probability(segmenter, p, cls, tuple(members))
            found = p_class >= o.threshold
            sure = sure_pixels(p_class, o.probability, self.field, cls in o.largest)
            second = mask_union(batch, tuple(o.against[cls])) if cls in o.against else None
            for i, name in enumerate(names):
                of = self.counts.setdefault(name, {})
                of[cls, "before"], of[cls, "after"] = overlap(found[i], true[i]), overlap(sure[i], true[i])
                if second is not None:
                    of[cls, "between observers"] = overlap(second[i], true[i])
                    of[cls, "against the second observer"] = overlap(found[i], second[i])

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Segmentation)
        self.counts.update(other.counts)
        self.unmasked += other.unmasked

    def _scores(self, kind: str, cls: str, stage: str) -> list[float]:
        """The defined scores of all volumes, in the order of their names; `all` adds the counts of the classes."""
        found = []
        for _, of in sorted(self.counts.items()):
            rows = [counts for (c, s), counts in of.items() if s == stage and cls in (c, "all")]
            value = score(kind, tuple(map(sum, zip(*rows)))) if rows else None  # type: ignore[arg-type]
            if value is not None:
                found.append(value)
        return found

    def _value(self, kind: str, cls: str, stage: str, label: str) -> Value | None:
        scores = self._scores(kind, cls, stage)
        if not scores:
            return None
        low, high = bootstrap_mean(scores, self.seed)
        volumes = sum(any(s == stage and cls in (c, "all") for c, s in of) for of in self.counts.values())
        told = [f"only {len(scores)} volumes"] if len(scores) < FEW else []
        if len(scores) < volumes:
            told.append(f"not defined in {volumes - len(scores)} of {volumes} volumes, left out")
        name = f"{kind} {cls}{label}"
        how = "95 %, bootstrap over volumes"
        mean = float(np.mean(scores))
        return Value(name, mean, "val", "", low, high, how, None, len(scores), "higher", "; ".join(told))

    def compute(self) -> Result:
        o = self.options
        classes = [*o.classes, *(["all"] if len(o.classes) > 1 else [])]
        kinds = ("precision", "recall", "dice")
        labels = {"before": "", "after": ", post-processed"}
        wanted = [(kind, cls, stage, labels[stage]) for cls in classes for stage in STAGES for kind in kinds]
        for cls in o.against:
            wanted += [("dice", cls, s, f", {s}") for s in ("between observers", "against the second observer")]
        values = [value for row in wanted if (value := self._value(*row)) is not None]
        return Result(values, self._protocol(), {"table": self._table(classes, kinds), "volumes": self._by_volume()})

    def _table(self, classes: list[str], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for cls in classes:
            for stage in STAGES:
                row: dict[str, Any] = {"class": cls, "stage": stage, "n": len(self.counts)}
                for kind in kinds:
                    scores = self._scores(kind, cls, stage)
                    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
                    mean = float(np.mean(scores)) if scores else None
                    row[kind] = {"mean": mean, "sd": sd, "n": len(scores)}
                rows.append(row)
        return rows

    def _by_volume(self) -> dict[str, dict[str, dict[str, float | None]]]:
        found: dict[str, dict[str, dict[str, float | None]]] = {}
        for name, of in sorted(self.counts.items()):
            for (cls, stage), counts in of.items():
                if stage != "after":
                    found.setdefault(name, {}).setdefault(cls, {})[stage] = score("dice", counts)
        return found

    def _protocol(self) -> dict[str, Any]:
        o = self.options
        return {
            "definition": "each volume by its own pixels, then the mean over volumes in which the score is defined; "
            "recall after post-processing counts all true pixels, also those cropped away; all: the pixels of all "
            "classes together",
            "classes": {k: list(v) for k, v in o.classes.items()},
            "against": {k: list(v) for k, v in o.against.items()},
            "before": f"p >= {o.threshold}",
            "after": f"p >= {o.probability}, without the outer {o.rim} and the inner {o.centre} of the half width",
            "largest_component_of": list(o.largest),
            "without_masks": dict(sorted(self.unmasked.items())),
            "seed": self.seed,
        }
