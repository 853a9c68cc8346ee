"""Hyperspectral FID: Frechet distance over random band triplets, seen as RGB images by an image network.

Of each volume N random triplets of distinct bands are drawn, ordered by falling wavelength (red first). The draw is
a function of (seed, id): neither order nor batching matters. Triplets of one volume are not independent, so the
interval is made by leaving out volumes, and the extrapolation runs over volumes, not triplets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.fid import small_flag
from gen_metrics.frechet import extrapolate, frechet_gaussians
from gen_metrics.intervals import jackknife
from gen_metrics.moments import GroupMoments
from gen_metrics.streams import Names, draw_key


def band_triplets(bands: int, n: int, seed: int, name: str) -> np.ndarray:
    """(n, 3) distinct band indices, falling (depth rises in wavelength, so red comes first)."""
    g = np.random.default_rng([abs(seed), draw_key(seed, name)])
    picks = g.random((n, bands)).argpartition(2, axis=1)[:, :3]  # three smallest of random keys: no repeats
    return -np.sort(-picks, axis=1)


class HyperspectralFid(Metric):
    """Streams moments of the features, kept apart in groups of volumes.

    Raises: RecipeError where depth is no band axis of at least three, or the network takes whole volumes.
    """

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.HyperspectralFid, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        spec = context.spec
        if spec.depth != "bands" or spec.size[0] < 3:
            raise RecipeError(
                f"[metrics] hyperspectral-fid needs a depth of at least 3 bands; this data set has "
                f"{spec.size[0]} x '{spec.depth}': use fid instead"
            )
        self.names = Names()
        self.moments: dict[str, GroupMoments] = {}

    def network(self) -> Any:
        network = self.context.features(self.options.features)
        if network.takes != "image":
            raise RecipeError(
                f'[metrics] hyperspectral-fid, features = "{self.options.features}": that network takes whole '
                f"volumes, expected one that takes images, such as random-conv64"
            )
        return network

    def _share(self, source: str) -> float:
        """Which share of a source's volumes is taken."""
        counts = getattr(self.context, "counts", None) or {}
        total, most = counts.get(source, 0), self.options.volumes
        return 1.0 if most == 0 or total <= most else most / total

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o, network = self.options, self.network()
        network.eval()
        device = getattr(self.context, "device", None) or batch.x.device
        for i, name in enumerate(self.names.of(batch, source)):
            if draw_key(self.seed + 4, name) >= self._share(source) * 2**64:
                continue
            bands = batch.x[i].to(device).mean(0)  # (D, H, W): channels of a band are averaged
            picks = torch.from_numpy(band_triplets(len(bands), o.triplets, self.seed, name)).to(device)
            rows = torch.cat([network.features(bands[p]) for p in picks.split(o.batch)])
            if source not in self.moments:
                self.moments[source] = GroupMoments(rows.shape[1], o.groups)
            self.moments[source].add(rows, draw_key(self.seed + 1, name) % o.groups)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, HyperspectralFid)
        for source, moments in other.moments.items():
            if source in self.moments:
                self.moments[source].merge(moments)
            else:
                self.moments[source] = moments

    def _scaled(self, g: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A Gaussian in units of validation's sd, where the options say so."""
        if self.options.standardize == "none":
            return g
        sd = self.moments["val"].gaussian()[1].diagonal().sqrt()
        sd = torch.where(sd > 1e-12, sd, torch.ones_like(sd))
        return g[0] / sd, g[1] / torch.outer(sd, sd)

    def _distance(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
        return frechet_gaussians(*self._scaled(a), *self._scaled(b))

    def compute(self) -> Result:
        o = self.options
        protocol: dict[str, Any] = {
            "definition": "Frechet distance over random triplets of bands in falling wavelength, pooled over volumes",
            "triplets": o.triplets,
            "standardize": o.standardize,
            "seed": self.seed,
            "n": {s: int(m.volumes.sum()) for s, m in sorted(self.moments.items())},
        }
        if not self.moments:
            return Result([], protocol)
        protocol |= {"features": self.network().protocol(), "image_size": list(self.context.spec.size[1:])}
        val = self.moments.get("val")
        if val is None or val.volumes.sum() < 2:
            return Result([], protocol | {"note": "needs at least two validation volumes"})
        protocol["dim"] = val.dim
        protocol["floor"] = "training against validation"
        values, extra = [], {}
        floor: float | None = None
        whole = val.gaussian()
        for source in ("train", "reconstruction", "synthetic"):
            m = self.moments.get(source)
            if m is None or m.volumes.sum() < 2:
                continue
            value = self._distance(m.gaussian(), whole)
            left = [
                [self._distance(m.without(g), whole) for g in m.used() if len(m.used()) > 2],
                [self._distance(m.gaussian(), val.without(g)) for g in val.used() if len(val.used()) > 2],
            ]
            enough = min(map(len, left)) > 2
            low, high = jackknife(left, value) if enough else (None, None)
            floor = value if source == "train" else floor
            n = int(m.volumes.sum())
            flag = small_flag({source: n, "validation": int(val.volumes.sum())}, val.dim)
            values.append(
                Value(
                    "hyperspectral-fid",
                    value,
                    source,
                    "val",
                    low,
                    high,
                    "95 %, delete-a-group jackknife over volumes" if enough else "",
                    floor if source != "train" else None,
                    n,
                    "lower",
                    flag,
                )
            )
            if o.extrapolate and len(m.used()) >= 4:
                extra[source] = self._curve(m, val)
        return Result(values, protocol, {"over_n": extra} if extra else {})

    def _curve(self, m: GroupMoments, val: GroupMoments) -> dict[str, Any]:
        """Distance over a growing number of volumes (first groups, both sides) and the line over 1/N."""
        ns, points = [], []
        used = [g for g in m.used() if g in val.used()]
        for share in (0.25, 0.5, 0.75, 1.0):
            groups = used[: max(2, round(share * len(used)))]
            n = int(m.volumes[groups].sum())
            if n in ns:
                continue
            ns.append(n)
            points.append(self._distance(m.gaussian(groups), val.gaussian(groups)))
        if len(ns) < 2:
            return {"n": ns, "value": points}
        limit, slope = extrapolate([float(n) for n in ns], points)
        return {"n": ns, "value": points, "limit": limit, "slope": slope}
