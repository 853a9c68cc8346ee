"""Recovery: which features and which distance lead an altered volume back to its original?

Some training volumes are altered (flipped, shifted, cropped, rotated, ...; `alterations.QUERIES`) and looked up among
all training volumes. The recovery rate is the share of the altered ones whose original is among the k nearest; a
feature space in which it is low cannot show that nothing was copied. Tables of features and plain pixels are compared
under each distance.

Source: the recovery study of the hyperspectral report (annex A.3), which finds 65 % for MoCo features under L1. There
an altered image counts two or three originals of one eye; here it counts the one volume it was made from.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.alterations import QUERIES, altered, features_of_versions
from gen_metrics.fid import standardizer
from gen_metrics.intervals import bootstrap_mean
from gen_metrics.neighbours import Neighbours
from gen_metrics.streams import Names, context_features, draw_key, features_treatment

PIXELS = "pixels"
HOW = "95 %, bootstrap over originals"


def pixels(x: Tensor, side: int) -> Tensor:
    """(B, C D side side) float64: every band or slice of x (B, C, D, H, W) as means over side x side blocks."""
    small = adaptive_avg_pool2d(x.flatten(1, 2), (min(side, x.shape[3]), min(side, x.shape[4])))
    return small.flatten(1).double().cpu()


class Recovery(Metric):
    """Keeps one vector a training volume and space, and one for each altered query."""

    sources = ("train",)
    needs = ("features",)

    def __init__(self, options: opt.Recovery, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.spaces = [*options.features, *([PIXELS] if options.pixels else [])]
        self.rows: dict[str, dict[str, Tensor]] = {space: {} for space in self.spaces}
        self.queries: dict[str, dict[str, list[Tensor]]] = {space: {} for space in self.spaces}  # as QUERIES lists them
        total = context.counts.get("train", 0) if getattr(context, "counts", None) else 0
        self.share = options.queries / max(total, options.queries)

    def update(self, batch: Batch, source: str) -> None:
        names = self.names.of(batch, source)
        for table in self.options.features:
            self.rows[table].update(zip(names, context_features(self.context, table, batch, source)))
        if self.options.pixels:
            self.rows[PIXELS].update(zip(names, pixels(batch.x, self.options.pixels)))
        for name, x in zip(names, batch.x):
            if draw_key(self.seed + 5, name) < self.share * 2**64:
                self._alter(name, x)

    def _alter(self, name: str, x: Tensor) -> None:
        versions = [altered(x, kind, alteration, self.seed + 6, name) for kind, alteration in QUERIES.items()]
        for table in self.options.features:
            network, device = self.context.features(table), getattr(self.context, "device", None)
            self.queries[table][name] = features_of_versions(network, versions, device)
        if self.options.pixels:
            self.queries[PIXELS][name] = list(pixels(torch.stack(versions), self.options.pixels))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Recovery)
        for mine, theirs in ((self.rows, other.rows), (self.queries, other.queries)):
            for space, table in theirs.items():
                mine[space].update(table)  # type: ignore[arg-type]

    def _ranks(self, space: str, distance: str) -> Tensor:
        """(originals, alterations) rank of the original among the neighbours, 0 the nearest; `neighbours` if beyond."""
        names, originals = sorted(self.rows[space]), sorted(self.queries[space])
        base = torch.stack([self.rows[space][n] for n in names])
        rows = torch.stack([row for n in originals for row in self.queries[space][n]])
        mean, sd = standardizer(base, self.options.standardize)
        _, at = Neighbours((base - mean) / sd, distance, "auto")((rows - mean) / sd, self.options.neighbours)
        index = {name: i for i, name in enumerate(names)}
        true = torch.tensor([index[n] for n in originals]).repeat_interleave(len(QUERIES))
        hit = at == true[:, None]
        rank = torch.where(hit.any(1), hit.double().argmax(1), self.options.neighbours)
        return rank.view(len(originals), len(QUERIES))

    def compute(self) -> Result:
        o = self.options
        n = len(next(iter(self.rows.values()), {}))
        protocol: dict[str, Any] = {
            "definition": f"share of altered training volumes whose original is among the {o.neighbours} nearest "
            "training volumes (first: is the nearest)",
            "alterations": list(QUERIES),
            "neighbours": o.neighbours,
            "pixels": o.pixels,
            "standardize": o.standardize,
            "seed": self.seed,
            "n": {"train": n, "originals": len(next(iter(self.queries.values()), {}))},
        }
        if not any(self.queries.values()):
            return Result([], protocol | {"note": "no training volume was altered"})
        networks = {table: self.context.features(table) for table in o.features}
        protocol["features"] = {
            t: {**net.protocol(), "input_as": features_treatment(net)} for t, net in networks.items()
        }
        values: list[Value] = []
        rates: dict[str, Any] = {}
        for space in self.spaces:
            for distance in o.distances:
                rank = self._ranks(space, distance)
                among, first = rank < o.neighbours, rank == 0
                for name, hit in (("recovered", among), ("recovered first", first)):
                    each = hit.double().mean(1).tolist()  # of one original: its alterations are not independent
                    ends = bootstrap_mean(each, self.seed)
                    value = sum(each) / len(each)
                    at = (
                        f"{name}, {space}, {distance}",
                        value,
                        "train",
                        "train",
                        *ends,
                        HOW,
                        None,
                        len(each),
                        "higher",
                    )
                    values.append(Value(*at))
                rates.setdefault(space, {})[distance] = {
                    kind: {"recovered": float(among[:, k].double().mean()), "first": float(first[:, k].double().mean())}
                    for k, kind in enumerate(QUERIES)
                }
        extra = {"recovery": rates, "dim": {s: len(next(iter(self.rows[s].values()))) for s in self.spaces}}
        return Result(values, protocol, extra)
