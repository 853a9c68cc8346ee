"""Spectra of each structure: Gaussian Kullback-Leibler divergence and spectral angle between sources.

Structures are found by the recipe's segmenter in every source alike; a Gaussian is fitted to the spectra of the
pixels it is sure of. KL(P || Q) of Gaussians: Kullback 1959, chapter 9, eq. 1.2; spectral angle: Kruse et al. 1993.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import jackknife
from gen_metrics.moments import GroupMoments
from gen_metrics.postprocess import round_field, sure_pixels
from gen_metrics.streams import Names, draw_key, mask_union, segment, structure_probability

Gaussian = tuple[Tensor, Tensor]
FLOORS = (("val", "train"), ("reconstruction", "reconstruction-train"))
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
            m = self.moments.setdefault((structure, source), GroupMoments(self.dim, o.groups))
            for i, name in enumerate(names):
                m.add(x[i][pixels[i]], draw_key(self.seed, name) % o.groups)

    def merge(self, other: Metric) -> None:
        assert isinstance(other, SpectralKl)
        for key, moments in other.moments.items():
            if key in self.moments:
                self.moments[key].merge(moments)
            else:
                self.moments[key] = moments

    def _ridged(self, g: Gaussian) -> Gaussian:
        return g[0], g[1] + self.options.ridge * torch.eye(self.dim, dtype=torch.float64)

    def _kl(self, p: Gaussian, q: Gaussian) -> float:
        return gaussian_kl(*self._ridged(p), *self._ridged(q))

    def _compare(self, structure: str, p: str, q: str, floors: dict[str, tuple[float, float]]) -> list[Value]:
        """KL(p || q) and the angle of the means; nothing where a side has under two pixels."""
        mp, mq = self.moments.get((structure, p)), self.moments.get((structure, q))
        if mp is None or mq is None or min(mp.count, mq.count) < 2:
            return []
        gp, gq = mp.gaussian(), mq.gaussian()
        kl, angle = self._kl(gp, gq), spectral_angle(gp[0] + 1, gq[0] + 1)
        uses = mp.used(), mq.used()
        low = high = None
        if min(map(len, uses)) > 3:
            left = [
                [self._kl(mp.without(g), gq) for g in uses[0]],
                [self._kl(gp, mq.without(g)) for g in uses[1]],
            ]
            low, high = jackknife(left, kl)
        flag = "; ".join(
            f"{name}: {m.count} pixels for {self.dim} bands, only the ridge keeps the covariance regular"
            for name, m in ((p, mp), (q, mq))
            if m.count <= self.dim
        )
        is_floor = (p, q) in FLOORS
        floor = (None, None) if is_floor else floors.get(p, (None, None))
        if is_floor:
            floors[p] = (kl, angle)
        n = int(mq.volumes.sum())
        how = "95 %, delete-a-group jackknife over volumes" if low is not None else ""
        return [
            Value(f"kl {structure}", kl, q, p, low, high, how, floor[0], n, "lower", flag),
            Value(f"angle {structure}", angle, q, p, floor=floor[1], n=n, better="lower", flag=flag),
        ]

    def compute(self) -> Result:
        o = self.options
        values: list[Value] = []
        for structure in o.structures:
            floors: dict[str, tuple[float, float]] = {}
            for p, q in (*FLOORS, *SCORED):
                values += self._compare(structure, p, q, floors)
        pixels = {f"{s} {src}": m.count for (s, src), m in sorted(self.moments.items())}
        protocol: dict[str, Any] = {
            "definition": "KL(against || source) in nats of Gaussians fitted to the spectra (in [-1, 1]) of the pixels "
            "of a structure; angle in radians between mean spectra, x + 1. Floor of val: train; floor of "
            "reconstruction: reconstructed training volumes",
            "structures": {k: list(v) for k, v in o.structures.items()},
            "probability": o.probability,
            "largest_component_of": list(o.largest),
            "rim": o.rim,
            "centre": o.centre,
            "ridge": o.ridge,
            "found_by": "true masks where a volume has them, else the segmenter" if o.truth else "the segmenter",
            "pixels": pixels,
            "seed": self.seed,
        }
        return Result(values, protocol, {"signatures": self._signatures()})

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
