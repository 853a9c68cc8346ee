"""The step `evaluate`: real volumes, reconstructions and samples are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.graph import StepSpec
from gen_core.run.samples.outputs import note_neighbours, set_aside
from gen_core.run.scoring.evaluation import evaluate_sources, run_sources
from gen_core.run.scoring.parts import parts_of


def evaluate(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Stream every source through every metric; scores go to metrics.json, clock-dependent ones to cost.json."""
    if not ctx.recipe.evaluate.reject.by:
        set_aside(ctx.folder.path / "samples", {})  # what an earlier recipe rejected comes back
    parts = parts_of(ctx)
    results, timed = evaluate_sources(ctx, run_sources(ctx, rejected=bool(parts.aside)), parts)
    atomic.write_json(folder / "metrics.json", {"recipe": ctx.recipe.run.name, "results": results})
    atomic.write_json(folder / "timed.json", timed)
    atomic.write_json(ctx.folder.path / "metrics.json", read_json(folder / "metrics.json"))
    for result in results.values():
        rows = result["extra"].get("neighbours")
        if rows:  # a memorization metric: its distances belong beside each sample
            nearest = {row["id"]: row["distance"][0] for row in rows if row["distance"]}
            note_neighbours(ctx.folder.path / "samples", nearest, result["protocol"])
    return {"metrics": sorted(results), "published": ["metrics.json"]}
