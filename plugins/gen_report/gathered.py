"""What the page needs of a run, read once: pictures to show, and the figures that other files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

from gen_report.report_options import Html


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
    train: dict[str, np.ndarray] = field(factory=dict)  # id -> x, of the neighbours shown
    far_samples: dict[str, np.ndarray] = field(factory=dict)  # id -> x, of the samples whose neighbours are shown

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
    _gather_neighbours(got)
    return got


def closest(got: Gathered) -> list[dict[str, Any]]:
    """The samples nearest to a training volume, nearest first, as many as are shown."""
    rows = [r for r in got.extra("neighbours") or [] if r.get("distance") and r.get("train")]
    return sorted(rows, key=lambda r: r["distance"][0])[: got.options.neighbours]


def _gather_neighbours(got: Gathered) -> None:
    """Find the volumes to picture: by looking through the training volumes, as far as the limit allows."""
    rows = closest(got)
    if not rows or not got.options.show_real:
        return
    bytes_each = 4 * int(np.prod(got.spec.shape))
    limit = int(got.options.read_megabytes * 1e6 / bytes_each)
    wanted = {name for row in rows for name in row["train"][:3]}
    volumes = (got.run.prepared or {}).get("volumes", {}).get("train", limit)
    for sample in got.run.real("train", min(limit, int(volumes))) or []:
        if sample.id in wanted:
            got.train[sample.id] = sample.x
    samples = {row["id"] for row in rows}
    got.far_samples = {i: x for i, x, _ in got.synthetic if i in samples}
    if len(got.far_samples) < len(samples):
        for i, x in got.run.synthetic(min(limit, len(got.extra("neighbours")))) or []:
            if i in samples:
                got.far_samples[i] = x


def step_record(folder: Path, step: str) -> dict[str, Any]:
    """done.json of a step (through a reference), {} when it is not there."""
    path = Path(folder) / "steps" / step
    record = _json(path / "done.json")
    if record.get("reference"):
        record = {**record, **_json((path / record["reference"]).resolve() / "done.json")}
    return record


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
