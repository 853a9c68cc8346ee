"""What the page needs of a run, read once: pictures to show, and the figures that other files hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import define, field

from gen_core.report import Features
from gen_report.report_options import Html

ABREAST = 3  # nearest training volumes shown beside a sample


@define(eq=False)
class Gathered:
    """Everything the figures look at. real: (id, x, physical); pairs: (id, x, x_hat, physical of both);
    synthetic: (id, x, physical). All lists are empty where the run has nothing (or must not show it).
    """

    run: Any
    options: Html
    real: list[tuple[str, np.ndarray, np.ndarray]] = field(factory=list)
    pairs: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = field(factory=list)
    synthetic: list[tuple[str, np.ndarray, np.ndarray]] = field(factory=list)
    by_id: dict[str, np.ndarray] = field(factory=dict)  # id -> x, of volumes that a figure names
    between: list[tuple[float, np.ndarray]] = field(factory=list)  # share, x: from sample 0 to sample 1
    way: list[tuple[float, np.ndarray, np.ndarray]] = field(factory=list)  # t, x of z_t, x of the estimate of z_0
    features: Features | None = None
    rejected: dict[str, list[str]] = field(factory=dict)  # id -> reasons

    @property
    def spec(self) -> Any:
        return self.run.spec

    @property
    def results(self) -> dict[str, Any]:
        """Metric table name -> its result as JSON."""
        return (self.run.metrics or {}).get("results") or {}

    def extra(self, key: str) -> Any:
        """The first metric's `extra[key]` that is there, or None."""
        for result in self.results.values():
            found = (result.get("extra") or {}).get(key)
            if found:
                return found
        return None


def gather(run: Any, options: Html) -> Gathered:
    """Read what the page shows. Real volumes are left alone when they must not be shown."""
    got = Gathered(run, options)
    scale = run.spec.scale
    got.synthetic = [(i, x, scale.to_physical(x)) for i, x in run.synthetic(options.images) or []]
    if options.show_real:
        got.real = [(s.id, s.x, s.scale.to_physical(s.x)) for s in run.real("val", options.images) or []]
        for s, x_hat in run.reconstructions(options.reconstructions) or []:
            got.pairs.append((s.id, s.x, x_hat, s.scale.to_physical(s.x), s.scale.to_physical(x_hat)))
    got.rejected = run.rejected() or {}
    if options.frames > 1 and got.synthetic:
        got.between = run.interpolation(options.frames, options.strip_steps) or []
        got.way = run.denoising(options.frames - 1, options.strip_steps) or []
    if options.scattered:
        got.features = run.features(options.scattered)
    _gather_by_id(got)
    return got


def closest(got: Gathered) -> list[dict[str, Any]]:
    """The samples nearest to a training volume, nearest first, as many as are shown."""
    rows = [r for r in got.extra("neighbours") or [] if r.get("distance") and r.get("train")]
    return sorted(rows, key=lambda r: r["distance"][0])[: got.options.neighbours]


def farthest(got: Gathered) -> list[tuple[str, str]]:
    """(id, why) of the samples that look worst: as an outlier metric ranks them, else the farthest from training."""
    ranked = [r for r in got.extra("worst") or [] if isinstance(r, dict) and r.get("id")]
    if ranked:
        return [(r["id"], str(r.get("why", ""))) for r in ranked][: got.options.worst]
    rows = [r for r in got.extra("neighbours") or [] if r.get("distance")]
    rows = sorted(rows, key=lambda r: -r["distance"][0])[: got.options.worst]
    return [(r["id"], f"distance {r['distance'][0]:.3g}") for r in rows]


def pictured_rejects(got: Gathered) -> list[str]:
    """Rejected samples to show: none where real volumes must not be seen, since one may be a copy of them."""
    return list(got.rejected)[: got.options.worst] if got.options.show_real else []


def _gather_by_id(got: Gathered) -> None:
    """The volumes that figures name, looked for among the training volumes as far as the limit allows."""
    wanted = [i for i, _ in farthest(got)] + pictured_rejects(got)
    if got.options.show_real:
        rows = closest(got)
        wanted += [row["id"] for row in rows] + [i for row in rows for i in row["train"][:ABREAST]]
    got.by_id = {i: x for i, x, _ in got.synthetic}
    limit = max(1, int(got.options.read_megabytes * 1e6 / (4 * int(np.prod(got.spec.shape)))))
    for id_ in dict.fromkeys(wanted):
        if id_ not in got.by_id and (sample := got.run.find(id_, limit)) is not None:
            got.by_id[id_] = sample.x


def short_id(id_: str) -> str:
    """ "sample-000012" -> "sample 12"; other names as they are."""
    kind, _, number = id_.rpartition("-")
    return f"{kind} {int(number)}" if kind == "sample" and number.isdigit() else id_


def feature_size(result: dict[str, Any]) -> str:
    """How many features of which network a distance looks at, as its protocol says; "" where it says nothing."""
    protocol = result.get("protocol") or {}
    dim, network = protocol.get("dim"), protocol.get("features")
    name = network.get("name") or network.get("network") or "" if isinstance(network, dict) else str(network or "")
    return ", ".join(part for part in (f"{dim} features" if dim else "", name) if part)
