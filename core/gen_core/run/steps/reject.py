"""The step `reject`: samples that a metric finds unfit are set aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.errors import RunError
from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec
from gen_core.run.samples.outputs import set_aside
from gen_core.run.samples.store import REJECTED
from gen_core.run.scoring.evaluation import evaluate_judges, run_sources


def reject(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Set samples aside that a metric of [evaluate.reject] finds unfit: out of the scores and out of `samples/`.

    Their files move to `samples/rejected/`, where `rejected.json` says why.
    """
    reasons = evaluate_judges(ctx, run_sources(ctx), ctx.recipe.evaluate.reject.by)
    drawn = ctx.record("sample")["volumes"]
    record = {"rejected": reasons, "of": drawn, "by": list(ctx.recipe.evaluate.reject.by)}
    if len(reasons) == drawn:
        first = next(iter(reasons.values()))[0]
        raise RunError(f"[evaluate.reject] would set aside all {drawn} samples (first: {first}): nothing to score")
    atomic.write_json(folder / REJECTED, record)
    set_aside(ctx.folder.path / "samples", reasons)
    ctx.progress.say(f"{len(reasons)} of {drawn} samples set aside by {', '.join(record['by'])}")
    return {"rejected": len(reasons), "volumes": drawn - len(reasons)}
