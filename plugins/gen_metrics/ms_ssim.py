"""Diversity: mean MS-SSIM over random pairs within one source. The aim is validation's value, not the lowest.

Source: Odena et al. 2017, section 4.2 (MS-SSIM of pairs as diversity); the measure itself is in `similarity.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import jackknife
from gen_metrics.similarity import WEIGHTS, ms_ssim, scale_count
from gen_metrics.streams import Names, draw_key


def ring_pairs(n: int, pairs: int) -> list[tuple[int, int]]:
    """Pairs (i, i + k mod n), k = 1, 2, ...: every volume enters equally often; at most all n (n - 1) / 2.

    Volumes stand in random (seeded) order, so these are random pairs.
    """
    found: list[tuple[int, int]] = []
    for k in range(1, n // 2 + 1):
        for i in range(n if 2 * k != n else n // 2):
            found.append((i, (i + k) % n))
            if len(found) == pairs:
                return found
    return found


class MsSsim(Metric):
    """Keeps the volumes of each source that a seeded hash of their ids ranks first, pairs them in `compute`."""

    sources = ("train", "val", "synthetic")

    def __init__(self, options: opt.MsSsim, context: MetricContext):
        self.options, self.seed = options, context.seed
        c, d, h, w = context.spec.shape
        budget = options.memory_mb * 2**20 // (len(self.sources) * c * d * h * w * 4)
        self.most = max(2, min(options.volumes, budget, options.pairs + 1))
        self.names = Names()
        self.kept: dict[str, dict[tuple[int, str], Tensor]] = {}
        self.seen: dict[str, int] = {}

    def update(self, batch: Batch, source: str) -> None:
        kept = self.kept.setdefault(source, {})
        self.seen[source] = self.seen.get(source, 0) + len(batch)
        for i, name in enumerate(self.names.of(batch, source)):
            key = (draw_key(self.seed, name), name)
            if len(kept) < self.most or key < max(kept):
                kept[key] = batch.x[i].detach().to("cpu", torch.float32, copy=True)
                if len(kept) > self.most:
                    del kept[max(kept)]

    def merge(self, other: Metric) -> None:
        assert isinstance(other, MsSsim)
        for source, table in other.kept.items():
            kept = self.kept.setdefault(source, {})
            kept.update(table)
            for key in sorted(kept)[self.most :]:
                del kept[key]
            self.seen[source] = self.seen.get(source, 0) + other.seen[source]

    @torch.no_grad()
    def _pairs(self, source: str) -> tuple[np.ndarray, list[tuple[int, int]], int]:
        """Values of the pairs, the pairs, and how many volumes entered."""
        o = self.options
        volumes = [v for _, v in sorted(self.kept.get(source, {}).items(), key=lambda kv: kv[0])]
        pairs = ring_pairs(len(volumes), o.pairs)
        values = []
        for i, j in pairs:
            x, y = volumes[i] + 1.0, volumes[j] + 1.0
            dims = 3 if o.mode == "3d" else 2
            values.append(float(ms_ssim(x, y, 2.0, o.window, o.sigma, dims, o.scales).double().mean()))
        return np.asarray(values), pairs, len(volumes)

    def compute(self) -> Result:
        values: list[Value] = []
        floor: float | None = None
        extra: dict[str, list[float]] = {}
        shape: tuple[int, ...] = ()
        for source in ("val", "train", "synthetic"):
            found, pairs, n = self._pairs(source)
            if n < 2:
                continue
            shape = tuple(next(iter(self.kept[source].values())).shape)
            mean = float(found.mean())
            ends = np.asarray(pairs)
            left = [float(found[(ends != i).all(1)].mean()) for i in range(n) if n > 3]
            low, high = jackknife([left], mean, 0.0) if left else (None, None)
            floor = mean if source == "val" else floor
            values.append(
                Value(
                    "ms-ssim",
                    mean,
                    source,
                    "" if source == "val" else "val",
                    low,
                    high,
                    "95 %, jackknife over volumes" if left else "",
                    floor if source != "val" else None,
                    n,
                    "match" if source != "val" else "",
                    "" if len(found) >= 30 else f"only {len(found)} pairs",
                )
            )
            extra[source] = np.round(found, 6).tolist()
        count = scale_count(*shape[-2:], self.options.scales) if shape else 0
        weights = np.asarray(WEIGHTS[:count])
        protocol = {
            "definition": "mean MS-SSIM over random pairs of one source, x + 1; the aim is validation's value",
            "mode": self.options.mode,
            "scales": count,
            "weights": np.round(weights / weights.sum(), 6).tolist() if count else [],
            "window": self.options.window,
            "sigma": self.options.sigma,
            "range": 2.0,
            "pairs": self.options.pairs,
            "volumes_kept": {s: len(k) for s, k in sorted(self.kept.items())},
            "volumes_seen": dict(sorted(self.seen.items())),
            "seed": self.seed,
        }
        return Result(values, protocol, {"pairs": extra})
