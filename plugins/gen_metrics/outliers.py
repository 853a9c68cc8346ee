"""Poor samples: far from all training volumes in feature space, of an impossible spectrum, or broken in range.

Three rules, each with a reason that a reader can check:

- far: the distance to the k-th nearest training volume is beyond what validation volumes show;
- spectrum: the Mahalanobis distance of the volume's mean spectrum from the training volumes' is beyond validation's
  (Mahalanobis 1936; the covariance shrunk, see shrinkage.py);
- range: values that are not finite, hardly any contrast, or more saturated voxels than any real volume has.

"Beyond" is the 1 - quantile of validation, so about that share of faultless samples is set aside by each rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen
from torch import Tensor

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.fid import standardizer
from gen_metrics.intervals import clopper_pearson
from gen_metrics.neighbours import nearest
from gen_metrics.shrinkage import shrunk
from gen_metrics.streams import Names, context_features, features_treatment

RULES = ("far", "spectrum", "range")
SATURATED = 0.999  # |x| from here on
ENOUGH = 100  # validation volumes for a quantile of 1 %
WORST = 12  # volumes named for the report


@frozen(eq=False)
class Look:
    """What is kept of a volume: features (dim,), mean spectrum (C D,), sd, share of saturated voxels, all finite."""

    features: Tensor
    spectrum: Tensor
    sd: float
    saturated: float
    finite: bool


def mahalanobis(rows: Tensor, base: Tensor) -> Tensor:
    """(n,) distances of rows (n, d) from the mean of `base` (m, d) by its shrunk covariance; m >= 2."""
    cov = shrunk(torch.cov(base.T).reshape(base.shape[1], -1), len(base))[0]
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), (rows - base.mean(0)).T, upper=False)
    return half.square().sum(0).sqrt()


class Outliers(Metric):
    """Keeps a feature vector, a spectrum and three numbers a volume."""

    sources = ("train", "val", "synthetic")
    needs = ("features",)

    def __init__(self, options: opt.Outliers, context: MetricContext):
        self.options, self.context = options, context
        self.names = Names()
        self.looks: dict[str, dict[str, Look]] = {}

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        finite = batch.x.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            batch = evolve(batch, x=batch.x.nan_to_num(0.0, 1.0, -1.0))
        found = context_features(self.context, self.options.features, batch, source)
        x = batch.x.cpu().double()
        spectra = x.mean((3, 4)).flatten(1)
        saturated = (x.abs() >= SATURATED).flatten(1).double().mean(1)
        looks = self.looks.setdefault(source, {})
        for i, name in enumerate(self.names.of(batch, source)):
            looks[name] = Look(found[i], spectra[i], float(x[i].std()), float(saturated[i]), bool(finite[i]))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, Outliers)
        for source, looks in other.looks.items():
            self.looks.setdefault(source, {}).update(looks)

    def _enough(self) -> bool:
        return min(len(self.looks.get(s, {})) for s in ("train", "val")) > max(2, self.options.neighbours)

    def _found(self, source: str) -> dict[str, dict[str, tuple[str, float]]]:
        """id -> rule -> (why, how many times the limit) of the volumes of a source that a rule objects to."""
        o = self.options
        ids = sorted(self.looks.get(source, {}))
        if not ids:
            return {}
        of = lambda s, part: torch.stack([getattr(look, part) for _, look in sorted(self.looks[s].items())])
        found: dict[str, dict[str, tuple[str, float]]] = {}
        base = of("train", "features")
        mean, sd = standardizer(base, "val")
        far = lambda s: nearest((of(s, "features") - mean) / sd, (base - mean) / sd, o.neighbours, "l2")[0][:, -1]
        off = lambda s: mahalanobis(of(s, "spectrum"), of("train", "spectrum"))
        told = {
            "far": (far, f"distance to the {o.neighbours}th nearest training volume"),
            "spectrum": (off, "Mahalanobis distance of the mean spectrum"),
        }
        for rule, (measure, what) in told.items():
            limit = float(np.quantile(measure("val").numpy(), 1 - o.quantile, method="weibull"))
            for id_, d in zip(ids, measure(source).tolist()):
                if d > limit:
                    why = f"{what} {d:.3g}, beyond {limit:.3g} of validation"
                    found.setdefault(id_, {})[rule] = (why, d / limit if limit > 0 else float("inf"))
        for id_ in ids:
            broken = self._broken(self.looks[source][id_])
            if broken:
                found.setdefault(id_, {})["range"] = broken
        return found

    def _broken(self, look: Look) -> tuple[str, float] | None:
        """Why a volume's values cannot be right, by what training and validation volumes have."""
        real = [r for s in ("train", "val") for r in self.looks[s].values()]
        lowest, most = min(r.sd for r in real), max(r.saturated for r in real)
        if not look.finite:
            return "holds NaN or infinite values", float("inf")
        if look.sd < lowest * self.options.contrast:
            why = f"standard deviation {look.sd:.3g}, the flattest real volume has {lowest:.3g}"
            return why, lowest / look.sd if look.sd > 0 else float("inf")
        if look.saturated > most + self.options.saturated:
            return f"{look.saturated:.1%} of voxels saturated, at most {most:.1%} in real volumes", float("inf")
        return None

    def judge(self) -> dict[str, str]:
        """Samples that a rule objects to, with all reasons; none where there are too few real volumes to tell."""
        if not self._enough():
            return {}
        return {id_: "; ".join(why for why, _ in rules.values()) for id_, rules in self._found("synthetic").items()}

    def compute(self) -> Result:
        o = self.options
        n = {s: len(looks) for s, looks in sorted(self.looks.items())}
        protocol: dict[str, Any] = {
            "definition": "share of volumes that a rule objects to: far (k-th nearest training volume, L2), spectrum "
            "(Mahalanobis distance of the mean spectrum), range (not finite, flat, saturated)",
            "neighbours": o.neighbours,
            "quantile": o.quantile,
            "contrast": o.contrast,
            "saturated": o.saturated,
            "standardize": "train",
            "n": n,
        }
        if not self._enough():
            return Result([], protocol | {"note": f"needs more than {max(2, o.neighbours)} volumes of train and val"})
        network = self.context.features(o.features)
        protocol |= {"features": network.protocol(), "input": features_treatment(network)}
        few = f"only {n['val']} validation volumes for a quantile of {o.quantile:g}" if n["val"] < ENOUGH else ""
        values, shares, worst = [], {}, []
        for source in ("val", "synthetic"):
            if source not in self.looks:
                continue
            found, total = self._found(source), n[source]
            for rule in ("any", *RULES):
                k = len(found) if rule == "any" else sum(rule in rules for rules in found.values())
                name = "outliers, share" if rule == "any" else f"outliers, {rule}"
                shares[source, rule] = k / total
                low, high = clopper_pearson(k, total)
                floor = shares.get(("val", rule)) if source == "synthetic" else None
                how = "95 %, Clopper-Pearson"
                values.append(Value(name, k / total, source, "train", low, high, how, floor, total, "lower", few))
            if source == "synthetic":
                by_excess = sorted(found.items(), key=lambda f: (-max(e for _, e in f[1].values()), f[0]))
                worst = [{"id": i, "why": "; ".join(w for w, _ in r.values())} for i, r in by_excess[:WORST]]
        return Result(values, protocol, {"worst": worst})
