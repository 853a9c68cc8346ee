"""Hyperspectral FID: Frechet distance over random band triplets, seen as RGB images by an image network.

Of each volume N random triplets of distinct bands are drawn, ordered by falling wavelength (red first). The draw is
a function of (seed, id): neither order nor batching matters. Triplets of one volume are not independent, so the
interval is made by leaving out volumes, and the extrapolation runs over volumes, not triplets.

What the network does to each band alone is done once a volume, and features of real volumes are kept on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.metric import Metric, MetricContext, Result
from gen_metrics import metric_options as opt
from gen_metrics.feature_cache import FeatureCache, kept_hashes
from gen_metrics.frechet import extrapolate
from gen_metrics.frechet_values import FLOOR, SCORED, frechet_values
from gen_metrics.sides import Groups, pooled_standardizer
from gen_metrics.streams import Names, draw_key, in_seeded_order

CURVE = (1, 5, 10, 25, 50, 100, 200)  # triplets a volume


def band_triplets(bands: int, n: int, seed: int, name: str) -> np.ndarray:
    """(n, 3) distinct band indices, falling (depth rises in wavelength, so red comes first)."""
    g = np.random.default_rng([abs(seed), draw_key(seed, name)])
    picks = g.random((n, bands)).argpartition(2, axis=1)[:, :3]  # three smallest of random keys: no repeats
    return -np.sort(-picks, axis=1)


def triplet_features(network: Any, bands: Tensor, picks: Tensor, at_once: int) -> Tensor:
    """Features (T, dim) float32 on the CPU of the triplets picks (T, 3) of bands (D, H, W).

    A network that offers `prepare_bands` sees each band once.
    """
    if hasattr(network, "prepare_bands"):
        prepared = network.prepare_bands(bands)
        rows = [network.features_of_triplets(prepared, p) for p in picks.split(at_once)]
    else:
        rows = [network.features(bands[p]) for p in picks.split(at_once)]
    return torch.cat(rows).float().cpu()


class HyperspectralFid(Metric):
    """Keeps the features of every volume's triplets under its id; all sums run in an order drawn by (seed, id).

    Memory: volumes x triplets x features x 4 bytes, 280 MB for 339 volumes, 100 triplets and 2048 features.

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
        self.triplets = max(options.triplets, CURVE[-1]) if options.triplet_curve else options.triplets
        self.features: dict[str, dict[str, Tensor]] = {}  # source -> name -> (triplets, dim) float32

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
        folder = getattr(self.context, "cache", None)
        cache = FeatureCache(folder, network.protocol(), {"triplets": self.triplets, "seed": self.seed}, device)
        hashes = kept_hashes(batch, source if folder else "")
        for i, name in enumerate(self.names.of(batch, source)):
            if draw_key(self.seed + 4, name) >= self._share(source) * 2**64:
                continue
            key = hashes[i] and f"{hashes[i]}:{name}"  # the name decides which triplets
            rows = cache.get(key)
            if rows is None:
                bands = batch.x[i].to(device).mean(0)  # (D, H, W): channels of a band are averaged
                picks = torch.from_numpy(band_triplets(len(bands), self.triplets, self.seed, name)).to(device)
                rows = triplet_features(network, bands, picks, o.batch)
                cache.put(key, rows)
            self.features.setdefault(source, {})[name] = rows

    def merge(self, other: Metric) -> None:
        assert isinstance(other, HyperspectralFid)
        for source, found in other.features.items():
            self.features.setdefault(source, {}).update(found)

    def _sides(self, tables: dict[str, list[Tensor]], triplets: int, groups: int) -> dict[str, Groups]:
        """Every source with the first `triplets` of each volume, in units of validation's sd where options say so."""
        cut = {s: [t[:triplets] for t in of] for s, of in tables.items()}
        centre, scale = pooled_standardizer(cut["val"], self.options.standardize)
        return {s: Groups(of, groups, centre, scale) for s, of in cut.items()}

    def compute(self) -> Result:
        o = self.options
        protocol: dict[str, Any] = {
            "definition": "Frechet distance over random triplets of bands in falling wavelength, pooled over volumes",
            "triplets": o.triplets,
            "standardize": o.standardize,
            "seed": self.seed,
            "n": {s: len(f) for s, f in sorted(self.features.items())},
        }
        if not self.features:
            return Result([], protocol)
        protocol |= {"features": self.network().protocol(), "image_size": list(self.context.spec.size[1:])}
        tables = {s: [t for _, t in in_seeded_order(f, self.seed)] for s, f in self.features.items() if len(f) > 1}
        if "val" not in tables:
            return Result([], protocol | {"note": "needs at least two validation volumes"})
        sides = self._sides(tables, o.triplets, o.groups)
        protocol |= {"dim": sides["val"].dim, "floor": FLOOR}
        values, curves, refused = frechet_values("hyperspectral-fid", sides, o.groups, o.extrapolate, self.seed)
        if refused:
            protocol["refused"] = refused
        extra: dict[str, Any] = {"over_n": curves} if curves else {}
        del sides
        if o.triplet_curve:
            extra["over_triplets"] = self._over_triplets(tables)
        return Result(values, protocol, extra)

    def _over_triplets(self, tables: dict[str, list[Tensor]]) -> dict[str, Any]:
        """Source -> distance to validation over the number of triplets on both sides, and the line over 1/N."""
        found: dict[str, Any] = {s: {"n": list(CURVE), "value": []} for s in SCORED if s in tables}
        for n in CURVE:
            sides = self._sides(tables, n, 1)
            for source, curve in found.items():
                curve["value"].append(sides[source].distance(sides["val"]))
        for curve in found.values():
            curve["limit"], curve["slope"] = extrapolate([float(n) for n in CURVE], curve["value"])
        return found
