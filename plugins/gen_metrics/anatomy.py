"""Anatomy that a reader would miss at once: one optic disc, enough vessels, and vessels that survive the codec.

Discs are connected components (4 neighbours) of the segmenter's disc pixels; areas are judged by validation's own
discs, so that the definition serves any field of view. Vessel contrast is measured with the true masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import bootstrap_mean, clopper_pearson, jackknife_volumes
from gen_metrics.streams import Names, mask_union, nearest_band, segment, structure_probability


def component_areas(mask: np.ndarray) -> list[int]:
    """Areas in pixels of the 4-connected components of a (H, W) bool mask, falling."""
    from scipy.ndimage import label

    labels, n = label(mask)
    return sorted(np.bincount(labels.ravel(), minlength=n + 1)[1:].tolist(), reverse=True)


def one_disc(areas: list[int], typical: float, limits: tuple[float, float], speck: float) -> bool:
    """Exactly one component larger than a speck, and of a disc's area; limits and speck in `typical` areas."""
    large = [a for a in areas if a > speck * typical]
    return len(large) == 1 and limits[0] * typical <= large[0] <= limits[1] * typical


def vessel_contrast(band: Tensor, vessel: Tensor, ring: Tensor) -> float | None:
    """(mean of the ring - mean of the vessels) / mean of the ring, of (H, W) intensities from black = 0 up."""
    if not bool(vessel.any()) or not bool(ring.any()):
        return None
    ground = float(band[ring].mean())
    return (ground - float(band[vessel].mean())) / ground if ground > 0 else None


def detail_correlation(a: Tensor, b: Tensor, valid: Tensor, width: int) -> float | None:
    """Pearson correlation, inside `valid`, of two (H, W) images minus their local means (width x width)."""

    def detail(v: Tensor) -> Tensor:
        inside = valid.double()
        # a mean over valid neighbours only: the dark outside would otherwise be the strongest detail
        blur = lambda t: avg_pool2d(t[None, None], width, 1, width // 2, count_include_pad=True)[0, 0]
        return (v.double() - blur(v.double() * inside) / blur(inside).clamp(min=1e-9))[valid]

    u, v = detail(a), detail(b)
    if len(u) < 2:
        return None
    u, v = u - u.mean(), v - v.mean()
    scale = u.norm() * v.norm()
    return float(u @ v / scale) if scale > 0 else None


class Anatomy(Metric):
    """Keeps a few numbers a volume."""

    sources = ("train", "val", "reconstruction", "synthetic")
    needs = ("segmenter", "pairs", "masks")

    def __init__(self, options: opt.Anatomy, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        self.names = Names()
        self.areas: dict[str, dict[str, list[int]]] = {}
        self.vessels: dict[str, dict[str, int]] = {}
        self.fields: dict[str, int] = {}  # of real volumes with a mask `valid`, by source and name
        self.contrast: dict[str, tuple[float, float]] = {}  # original, reconstruction
        self.detail: dict[str, float] = {}
        size = context.spec.size
        self.band = nearest_band(context.spec.wavelength_nm, size[0], options.wavelength_nm)
        self.reach = max(2, round(options.ring * min(size[1:])))

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o = self.options
        names = self.names.of(batch, source)
        segmenter = self.context.segmenter(o.segmenter)
        p = segment(segmenter, batch, getattr(self.context, "device", None))
        disc = structure_probability(segmenter, p, o.disc, (o.disc,)) >= o.probability
        vessel = structure_probability(segmenter, p, "vessel", o.vessel) >= o.probability
        valid = mask_union(batch, ("valid",))
        for i, name in enumerate(names):
            self.areas.setdefault(source, {})[name] = component_areas(disc[i].numpy())
            self.vessels.setdefault(source, {})[name] = int(vessel[i].sum())
            if valid is not None:
                self.fields[f"{source}/{name}"] = int(valid[i].sum())
        if source == "reconstruction" and batch.reference is not None:
            self._pairs(batch, names, valid)

    def _pairs(self, batch: Batch, names: list[str], valid: Tensor | None) -> None:
        """Contrast and detail of reconstruction beside original, for volumes with vessel masks."""
        o = self.options
        x = (batch.x.mean(1)[:, self.band].float().cpu() + 1) / 2  # (B, H, W), 0 = black
        y = (batch.reference.mean(1)[:, self.band].float().cpu() + 1) / 2
        inside = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
        vessel, disc = mask_union(batch, o.vessel), mask_union(batch, (o.disc,))
        for i, name in enumerate(names):
            found = detail_correlation(x[i], y[i], inside[i], 2 * (2 * self.reach // 2) + 1)
            if found is not None:
                self.detail[name] = found
            if vessel is None:
                continue
            near = max_pool2d(vessel[i][None, None].float(), 2 * self.reach + 1, 1, self.reach)[0, 0] > 0
            bare = ~disc[i] if disc is not None else torch.ones_like(near)
            ring, lumen = near & ~vessel[i] & bare & inside[i], vessel[i] & bare & inside[i]
            pair = vessel_contrast(y[i], lumen, ring), vessel_contrast(x[i], lumen, ring)
            if None not in pair:
                self.contrast[name] = pair  # type: ignore[assignment]

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Anatomy)
        for mine, theirs in ((self.areas, other.areas), (self.vessels, other.vessels)):
            for source, table in theirs.items():
                mine.setdefault(source, {}).update(table)
        self.fields.update(other.fields)
        self.contrast.update(other.contrast)
        self.detail.update(other.detail)

    def _typical(self) -> float | None:
        """Median area of the largest component, of validation (of training where that is missing)."""
        for source in ("val", "train", "reconstruction"):
            largest = [a[0] for a in self.areas.get(source, {}).values() if a]
            if largest:
                return float(np.median(largest))
        return None

    def compute(self) -> Result:
        o = self.options
        values: list[Value] = []
        typical = self._typical()
        order = [s for s in ("val", "train", "reconstruction", "synthetic") if s in self.areas]
        floor: float | None = None
        counts: dict[str, dict[str, int]] = {}
        for source in order if typical else []:
            areas = self.areas[source]
            k = sum(one_disc(a, typical, o.disc_area, o.speck) for a in areas.values())
            low, high = clopper_pearson(k, len(areas))
            share = k / len(areas)
            how = "95 %, Clopper-Pearson"
            values.append(Value("one disc, share", share, source, "", low, high, how, floor, len(areas), "higher"))
            floor = share if floor is None else floor
            large = [sum(c > o.speck * typical for c in a) for a in areas.values()]
            counts[source] = {str(n): large.count(n) for n in sorted(set(large))}
        values += self._vessel_shares(order)
        values += self._kept()
        protocol: dict[str, Any] = {
            "disc": f"exactly one 4-connected component with p({o.disc}) >= {o.probability} larger than {o.speck} of "
            f"the typical area, and of {o.disc_area[0]} to {o.disc_area[1]} typical areas",
            "typical_disc_area_pixels": typical,
            "vessel_share": f"pixels with p(vessel) >= {o.probability} over pixels of the field (mask 'valid'; for "
            "samples the mean field of the real volumes)",
            "contrast": "(mean of a ring around the vessels - mean of the vessels) / mean of the ring, x mapped to "
            "[0, 1], true masks, without the disc; kept: reconstruction over original, ratio of means",
            "detail": "Pearson correlation of reconstruction and original minus their local means, inside 'valid'",
            "ring_pixels": self.reach,
            "band": self.band,
            "wavelength_nm": self.context.spec.wavelength_nm[self.band] if self.context.spec.wavelength_nm else None,
            "seed": self.seed,
        }
        return Result(values, protocol, {"disc_counts": counts})

    def _vessel_shares(self, order: list[str]) -> list[Value]:
        values: list[Value] = []
        size = self.context.spec.size
        field = float(np.mean(list(self.fields.values()))) if self.fields else float(size[1] * size[2])
        shares: dict[str, np.ndarray] = {}
        for source in order:
            table = self.vessels[source]
            rows = [table[n] / (self.fields.get(f"{source}/{n}") or field) for n in sorted(table)]
            shares[source] = np.asarray(rows, np.float64)
            low, high = bootstrap_mean(rows, self.seed)
            mean = float(shares[source].mean())
            floor = float(shares["val"].mean()) if "val" in shares and source != "val" else None
            how = "95 %, bootstrap over volumes"
            values.append(
                Value("vessel share of the field", mean, source, "", low, high, how, floor, len(rows), "match")
            )
        for top, bottom in (("synthetic", "reconstruction"), ("reconstruction", "val")):
            if top in shares and bottom in shares and shares[bottom].mean() > 0:
                below = float(shares[bottom].mean())
                n = len(shares[top])
                figure = lambda rows, below=below: float(rows.mean()) / below
                low, high = jackknife_volumes(shares[top], figure)
                ratio = float(shares[top].mean()) / below
                how = f"95 %, jackknife over volumes of {top}"
                values.append(Value("vessel share, ratio", ratio, top, bottom, low, high, how, None, n, "match"))
        return values

    def _kept(self) -> list[Value]:
        values: list[Value] = []
        if self.contrast:
            rows = np.asarray([self.contrast[n] for n in sorted(self.contrast)], np.float64)
            if abs(rows[:, 0].mean()) > 1e-9:
                figure = lambda r: float(r[:, 1].mean() / r[:, 0].mean())
                low, high = jackknife_volumes(rows, figure)
                how, n = "95 %, jackknife over volumes", len(rows)
                name = "vessel contrast kept"
                values.append(Value(name, figure(rows), "reconstruction", "val", low, high, how, None, n, "higher"))
        if self.detail:
            rows = [self.detail[n] for n in sorted(self.detail)]
            low, high = bootstrap_mean(rows, self.seed)
            mean, how = float(np.mean(rows)), "95 %, bootstrap over volumes"
            values.append(
                Value(
                    "detail correlation",
                    mean,
                    "reconstruction",
                    "val",
                    low,
                    high,
                    how,
                    None,
                    len(rows),
                    "higher",
                )
            )
        return values
