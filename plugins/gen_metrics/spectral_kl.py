"""Spectra of each structure: Gaussian Kullback-Leibler divergence, spectral angle and Wasserstein distance by band.

Structures are found by the recipe's segmenter in every source alike; a Gaussian is fitted to the spectra of the
pixels it is sure of. KL(P || Q) of Gaussians: Kullback 1959, chapter 9, eq. 1.2; spectral angle: Kruse et al. 1993.
With `ridge = 0` the covariances are taken as they are, and one that cannot be inverted is shrunk (shrinkage.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.histograms import BINS, GroupHistograms, wasserstein
from gen_metrics.intervals import jackknife
from gen_metrics.moments import GroupMoments
from gen_metrics.postprocess import round_field, sure_pixels
from gen_metrics.shrinkage import is_regular, shrunk
from gen_metrics.streams import Names, draw_key, mask_union, segment, structure_probability

Gaussian = tuple[Tensor, Tensor]
FLOORS = (("val", "train"), ("reconstruction", "reconstruction-train"))
HOW = "95 %, delete-a-group jackknife over volumes"
SCORED = (("val", "reconstruction"), ("val", "synthetic"), ("reconstruction", "synthetic"))


def gaussian_kl(mean_p: Tensor, cov_p: Tensor, mean_q: Tensor, cov_q: Tensor) -> float:
    """KL(P || Q) in nats, float64, through Cholesky factors; both covariances must be positive definite."""
    mp, sp, mq, sq = (a.to("cpu", torch.float64) for a in (mean_p, cov_p, mean_q, cov_q))
    lp, lq = torch.linalg.cholesky(sp), torch.linalg.cholesky(sq)
    ratio = torch.linalg.solve_triangular(lq, lp, upper=False)
    shift = torch.linalg.solve_triangular(lq, (mq - mp)[:, None], upper=False)
    log_det = 2 * (lq.diagonal().log().sum() - lp.diagonal().log().sum())
    return float(0.5 * (ratio.square().sum() + shift.square().sum() - len(mp) + log_det))


def spectral_angle(a: Tensor, b: Tensor) -> float:
    """Angle in radians between two spectra; by atan2, because acos loses half the digits near 0."""
    u, v = a / a.norm(), b / b.norm()
    return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))


class SpectralKl(Metric):
    """Streams count, sum and outer products of the spectra of each structure and source, in groups of volumes."""

    sources = ("train", "val", "reconstruction", "reconstruction-train", "synthetic")
    needs = ("segmenter",)

    def __init__(self, options: opt.SpectralKl, context: MetricContext):
        self.options, self.context, self.seed = options, context, context.seed
        c, d, h, w = context.spec.shape
        self.dim = c * d
        self.field = round_field(h, w, options.rim, options.centre)
        self.names = Names()
        self.moments: dict[tuple[str, str], GroupMoments] = {}  # (structure, source)
        self.histograms: dict[tuple[str, str], GroupHistograms] = {}

    def _pixels(self, batch: Batch, structure: str, members: tuple[str, ...]) -> Tensor:
        """(B, H, W) bool: the pixels of a structure."""
        if self.options.truth:
            true = mask_union(batch, members)
            if true is not None:
                return true & self.field
        segmenter = self.context.segmenter(self.options.segmenter)
        p = segment(segmenter, batch, getattr(self.context, "device", None))
        p = structure_probability(segmenter, p, structure, members)
        return sure_pixels(p, self.options.probability, self.field, structure in self.options.largest)

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o = self.options
        names = self.names.of(batch, source)
        x = batch.x.flatten(1, 2).movedim(1, -1).cpu()  # (B, H, W, C D)
        for structure, members in o.structures.items():
            pixels = self._pixels(batch, structure, tuple(members))
            key = structure, source
            if key not in self.moments:
                self.moments[key] = GroupMoments(self.dim, o.groups)
                self.histograms[key] = GroupHistograms(self.dim, o.groups)
            for i, name in enumerate(names):
                rows, group = x[i][pixels[i]], draw_key(self.seed, name) % o.groups
                self.moments[key].add(rows, group)
                self.histograms[key].add(rows, group)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, SpectralKl)
        for mine, theirs in ((self.moments, other.moments), (self.histograms, other.histograms)):
            for key, table in theirs.items():
                if key in mine:
                    mine[key].merge(table)
                else:
                    mine[key] = table

    def _regular(self, g: Gaussian, n: int) -> Gaussian:
        """A Gaussian whose covariance can be inverted: with the ridge, or shrunk where there is none and it must."""
        if self.options.ridge:
            return g[0], g[1] + self.options.ridge * torch.eye(self.dim, dtype=torch.float64)
        return g if is_regular(g[1]) else (g[0], shrunk(g[1], n)[0])

    def _flag(self, sides: tuple[tuple[str, GroupMoments], ...]) -> str:
        """What was done to a covariance that is singular, "" where none is."""
        told = []
        for name, m in sides:
            cov = m.gaussian()[1]
            if self.options.ridge:
                if m.count <= self.dim:
                    told.append(f"{name}: {m.count} pixels for {self.dim} bands, only the ridge keeps it regular")
            elif not is_regular(cov):
                weight = shrunk(cov, m.count)[1]
                told.append(f"{name}: singular covariance ({m.count} pixels, {self.dim} bands), shrunk by {weight:.2g}")
        return "; ".join(told)

    def _compare(self, structure: str, p: str, q: str, floors: dict[str, tuple[float, ...]]) -> list[Value]:
        """KL(p || q), the angle of the means, the mean over bands of W1; nothing where a side has under two pixels."""
        mp, mq = self.moments.get((structure, p)), self.moments.get((structure, q))
        if mp is None or mq is None or min(mp.count, mq.count) < 2:
            return []
        hp, hq = self.histograms[structure, p], self.histograms[structure, q]
        pairs = [(mp.gaussian(), mq.gaussian(), hp.total(), hq.total())]
        uses = mp.used(), mq.used()
        if min(map(len, uses)) > 3:
            gp, gq, tp, tq = pairs[0]
            pairs += [(mp.without(g), gq, hp.total(g), tq) for g in uses[0]]
            pairs += [(gp, mq.without(g), tp, hq.total(g)) for g in uses[1]]
        found = [self._scores(*pair, mp.count, mq.count) for pair in pairs]
        is_floor = (p, q) in FLOORS
        floor = (None,) * 3 if is_floor else floors.get(p, (None,) * 3)
        if is_floor:
            floors[p] = found[0]
        flag, n, values = self._flag(((p, mp), (q, mq))), int(mq.volumes.sum()), []
        for k, name in enumerate(("kl", "angle", "wasserstein")):
            column = [f[k] for f in found]
            cut = 1 + len(uses[0])
            low, high = jackknife([column[1:cut], column[cut:]], column[0]) if len(column) > 1 else (None, None)
            how = HOW if low is not None else ""
            of_kl = flag if name == "kl" else ""
            values.append(Value(f"{name} {structure}", column[0], q, p, low, high, how, floor[k], n, "lower", of_kl))
        return values

    def _scores(self, p: Gaussian, q: Gaussian, hp: Tensor, hq: Tensor, np_: int, nq: int) -> tuple[float, ...]:
        """(KL, angle, mean W1 over bands) of two sets of spectra; x + 1 is what the angle is taken of."""
        kl = gaussian_kl(*self._regular(p, np_), *self._regular(q, nq))
        return kl, spectral_angle(p[0] + 1, q[0] + 1), float(wasserstein(hp, hq).mean())

    def compute(self) -> Result:
        o = self.options
        values: list[Value] = []
        for structure in o.structures:
            floors: dict[str, tuple[float, ...]] = {}
            for p, q in (*FLOORS, *SCORED):
                values += self._compare(structure, p, q, floors)
        pixels = {f"{s} {src}": m.count for (s, src), m in sorted(self.moments.items())}
        protocol: dict[str, Any] = {
            "definition": "KL(against || source) in nats of Gaussians fitted to the spectra (in [-1, 1]) of the pixels "
            "of a structure; angle in radians between mean spectra, x + 1; wasserstein: mean over bands of the "
            "1-Wasserstein distance of their values. Floor of val: train; of reconstruction: reconstructed training "
            "volumes",
            "structures": {k: list(v) for k, v in o.structures.items()},
            "probability": o.probability,
            "largest_component_of": list(o.largest),
            "rim": o.rim,
            "centre": o.centre,
            "ridge": o.ridge,
            "covariance": "with the ridge" if o.ridge else "as it is; shrunk (OAS) where it is singular, see flags",
            "bins": BINS,
            "found_by": "true masks where a volume has them, else the segmenter" if o.truth else "the segmenter",
            "pixels": pixels,
            "seed": self.seed,
        }
        return Result(values, protocol, {"signatures": self._signatures(), "wasserstein": self._by_band()})

    def _by_band(self) -> dict[str, dict[str, list[float]]]:
        """structure -> source -> W1 of each band against validation."""
        found: dict[str, dict[str, list[float]]] = {}
        for (structure, source), h in sorted(self.histograms.items()):
            val = self.histograms.get((structure, "val"))
            if source == "val" or val is None or not h.counts.any() or not val.counts.any():
                continue
            distances = wasserstein(h.total(), val.total())
            found.setdefault(structure, {})[source] = [round(float(d), 6) for d in distances]
        return found

    def _signatures(self) -> dict[str, Any]:
        """Mean and sd of the spectra of each structure and source, for the report."""
        found: dict[str, Any] = {}
        for (structure, source), m in sorted(self.moments.items()):
            if m.count < 2:
                continue
            mean, cov = m.gaussian()
            found.setdefault(structure, {})[source] = {
                "mean": np.round(mean.numpy(), 6).tolist(),
                "sd": np.round(cov.diagonal().clamp(min=0).sqrt().numpy(), 6).tolist(),
                "pixels": m.count,
            }
        nm = self.context.spec.wavelength_nm
        return {"wavelength_nm": list(nm) if nm else None, "structures": found}
