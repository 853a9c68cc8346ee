"""Frechet distance of features between each source and validation: one vector a volume, or plane by plane.

Source: Heusel et al. 2017 (FID); the distance itself is in `frechet.py`. Features are those of a network of the
recipe, standardized by validation's mean and sd by default, so that no feature dominates by its unit.

planes = "each": a network of images sees every plane as a grey image, and each kind of plane has a distance of its
own: the axial, coronal and sagittal planes of a stack of slices; each band of a hyperspectral cube (planes across the
band axis are no pictures). The score is their mean.

planes = "slices": each slice of the codec's last encoder maps gives a vector, all slices of all volumes enter together,
as in published figures of latent CT models. Slices of one volume are not independent: N counts the volumes too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.feature_cache import FeatureCache, kept_hashes
from gen_metrics.frechet_values import FLOOR, frechet_values
from gen_metrics.sides import Groups, Planes, Rows, Side, pooled_standardizer
from gen_metrics.streams import (
    Names,
    context_features,
    features_treatment,
    image_features,
    in_seeded_order,
    slices,
)

ORIENTATIONS = ("axial", "coronal", "sagittal")  # across D, H and W
SMALLEST = 8  # pixels of a plane's side


def standardizer(rows: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Mean and sd of each feature (n, d), sd 1 where a feature is constant; zeros and ones for how = "none"."""
    mean = rows.mean(0)
    if how == "none":
        return torch.zeros_like(mean), torch.ones_like(mean)
    sd = rows.std(0) if len(rows) > 1 else torch.zeros_like(mean)
    return mean, torch.where(sd > 1e-12, sd, torch.ones_like(sd))


def evenly(n: int, count: int) -> Tensor:
    """`count` of n indices, evenly spaced around the middle."""
    return ((torch.arange(count) + 0.5) * n / count).long()


class Fid(Metric):
    """Keeps the features of every volume under its id; all sums run in an order drawn by (seed, id).

    Raises: RecipeError where planes are asked of a network of volumes, or of volumes too thin for them.
    """

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Fid, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.features: dict[str, dict[str, Tensor]] = {}  # of each volume (dim,), or (images, dim) plane by plane
        spec = context.spec
        self.by_band = spec.depth == "bands"
        most = options.slices or max(spec.size)
        self.counts = [1] * spec.size[0] if self.by_band else [min(most, n) for n in spec.size]  # images of each plane
        if options.planes == "each" and not self.by_band and min(spec.size) < SMALLEST:
            raise RecipeError(
                f'[metrics] fid, planes = "each": volumes of {" x ".join(map(str, spec.size))} have planes under '
                f'{SMALLEST} pixels; use planes = "volume"'
            )

    def update(self, batch: Batch, source: str) -> None:
        if self.options.planes != "volume":
            found = self._planes(batch, source)
        else:
            found = context_features(self.context, self.options.features, batch, source)
        self.features.setdefault(source, {}).update(zip(self.names.of(batch, source), found))

    def _network(self) -> Any:
        network = self.context.features(self.options.features)
        if self.options.planes == "slices" and not hasattr(network, "slice_features"):
            raise RecipeError(
                f'[metrics] fid, planes = "slices": [{self.options.features}] has no features of slices, expected '
                f'use = "codec"'
            )
        if self.options.planes == "each" and network.takes != "image":
            raise RecipeError(
                f'[metrics] fid, planes = "each": [{self.options.features}] takes whole volumes, expected a network '
                f"that takes images, such as random-conv64"
            )
        return network

    def _planes(self, batch: Batch, source: str) -> list[Tensor]:
        """Of each volume (images, dim) float32, the planes one after the other."""
        network, device, folder = self._network(), getattr(self.context, "device", None), self._folder()
        network.eval()
        by_slice = self.options.planes == "slices"
        kind = "slices" if by_slice else "bands" if self.by_band else [ORIENTATIONS, self.counts]
        treatment = {"planes": kind}
        cache = FeatureCache(folder, network.protocol(), treatment, device)
        found = []
        for x, hash_ in zip(batch.x, kept_hashes(batch, source if folder else "")):
            known = cache.get(hash_)
            if known is None:
                x = x if device is None else x.to(device)
                if by_slice:
                    known = network.slice_features(x[None])[0].double().cpu().float()
                    cache.put(hash_, known)
                    found.append(known)
                    continue
                parts = [slices(x, axis)[evenly(x.shape[1 + axis], n)] for axis, n in self._cuts()]
                known = torch.cat([image_features(network, images) for images in parts]).float()
                cache.put(hash_, known)
            found.append(known)
        return found

    def _cuts(self) -> list[tuple[int, int]]:
        """(axis of (D, H, W), planes across it that are looked at)."""
        if self.by_band:
            return [(0, len(self.counts))]
        return list(enumerate(self.counts))

    def _folder(self) -> Any:
        return getattr(self.context, "cache", None)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Fid)
        for source, found in other.features.items():
            self.features.setdefault(source, {}).update(found)

    def _sides(self) -> dict[str, Side]:
        """Every source with two volumes or more, standardized by validation."""
        tables = {s: [t for _, t in in_seeded_order(f, self.seed)] for s, f in self.features.items() if len(f) > 1}
        o = self.options
        how, groups = o.standardize, o.groups
        if o.planes == "volume":
            rows = {s: torch.stack(t) for s, t in tables.items()}
            mean, sd = standardizer(rows["val"], how)
            return {s: Rows((r - mean) / sd) for s, r in rows.items()}
        planes: dict[str, dict[str, Groups]] = {s: {} for s in tables}
        for p, name in enumerate(self._plane_names()):
            cut = lambda v, p=p: v if o.planes == "slices" else v.split(self.counts)[p]
            of_plane = {s: [cut(v) for v in t] for s, t in tables.items()}
            mean, sd = pooled_standardizer(of_plane["val"], how)
            for s, t in of_plane.items():
                planes[s][name] = Groups(t, groups, mean, sd)
        return {s: Planes(sides) for s, sides in planes.items()}

    def _plane_names(self) -> tuple[str, ...]:
        spec = self.context.spec
        if self.options.planes == "slices":
            return ("slices",)
        if not self.by_band:
            return ORIENTATIONS
        if spec.wavelength_nm:
            return tuple(f"{nm:g} nm" for nm in spec.wavelength_nm)
        return tuple(f"band {d}" for d in range(spec.size[0]))

    def compute(self) -> Result:
        o = self.options
        each = {
            "volume": "one feature vector a volume",
            "each": "features of each plane, mean over planes",
            "slices": "one feature vector a slice of the codec's maps",
        }[o.planes]
        protocol: dict[str, Any] = {
            "definition": f"Frechet distance of Gaussians fitted to {each}, against validation",
            "planes": o.planes,
            "standardize": o.standardize,
            "seed": self.seed,
            "n": {s: len(f) for s, f in sorted(self.features.items())},
            "floor": FLOOR,
        }
        if not self.features:
            return Result([], protocol)
        network = self._network()
        treatment = features_treatment(network) if o.planes == "volume" else "each plane as a grey image"
        treatment = "each slice of its last maps" if o.planes == "slices" else treatment
        protocol |= {"features": network.protocol(), "input": treatment}
        if o.planes == "each" and not self.by_band:
            protocol["slices"] = o.slices
        if len(self.features.get("val", {})) < 2:
            return Result([], protocol | {"note": "needs at least two validation volumes"})
        sides = self._sides()
        limit = o.extrapolate and not (o.planes == "each" and self.by_band)  # hundreds of distances for each band
        values, curves, refused = frechet_values("fid", sides, o.groups, limit, self.seed)
        protocol["dim"] = sides["val"].dim
        if refused:
            protocol["refused"] = refused
        extra: dict[str, Any] = {"over_n": curves} if curves else {}
        if o.planes == "each":
            extra["planes"] = self._each(sides, [v.source for v in values if v.name == "fid"])
            if not self.by_band:
                values += [
                    Value(f"fid {name}", d, source, "val", n=sum(sides[source].volumes), better="lower")
                    for source, found in extra["planes"].items()
                    for name, d in found.items()
                ]
        return Result(values, protocol, extra)

    def _each(self, sides: dict[str, Side], sources: list[str]) -> dict[str, dict[str, float]]:
        """Source -> plane -> distance to validation."""
        val = sides["val"].sides
        return {s: {name: side.distance(val[name]) for name, side in sides[s].sides.items()} for s in sources}
