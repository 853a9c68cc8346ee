"""The step `sample`: volumes are drawn, kept in chunks, and written in the format asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gen_core.run.changes import started_with
from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec
from gen_core.run.samples.background import Background
from gen_core.run.samples.drawing import draw
from gen_core.run.samples.outputs import ASIDE, data_card, write_manifest, write_samples
from gen_core.run.samples.provenance import sample_head
from gen_core.run.samples.sampling import chunks, sample_seed
from gen_core.run.samples.store import chunk_path, chunk_problem, read_chunk, sample_id, stored_chunks, write_chunk


def sample(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Draw [sample] n volumes chunk by chunk, keep them, and write them in the format asked for."""
    options, ranks = ctx.recipe.sample, ctx.ranks
    timing = {"sampling_seconds": 0.0, "decode_seconds": 0.0, "volumes": 0}
    to_draw, of = [], ""
    if ranks.leads:
        of = (started_with(folder) or {})["fingerprint"]
        to_draw = [chunk for chunk in chunks(options.n, options.batch) if not _drawn(ctx, folder, chunk, of)]
        ranks.told(step.name)
    to_draw, of = ranks.told([to_draw, of])
    with Background() as beside:
        for drawn in draw(ctx, to_draw[ranks.rank :: ranks.world]):
            beside.do(write_chunk, folder, drawn, of)
            timing["sampling_seconds"] += drawn.seconds["sampling"]
            timing["decode_seconds"] += drawn.seconds["decoding"]
            timing["volumes"] += options.batch
    heard = ranks.gathered(timing)  # and so all chunks are written
    if not ranks.leads:
        return {}
    timing = {key: sum(each[key] for each in heard) for key in timing}
    head = sample_head(ctx)
    publish(ctx, folder, ctx.folder.path / "samples", head, options.format)
    return {"volumes": options.n, "head": head, "cost": timing}


def _drawn(ctx: RunContext, folder: Path, chunk: int, of: str) -> bool:
    """Whether a chunk of this step was written earlier and is whole; any other file in its place is drawn again."""
    path = chunk_path(folder, chunk)
    if not path.exists():
        return False
    if problem := chunk_problem(path, chunk, of):
        ctx.progress.say(f"sample: drawn again: {problem}")
    return not problem


def publish(ctx: RunContext, folder: Path, target: Path, head: dict[str, Any], format: str) -> None:
    """Write kept chunks as sample files with manifest and card."""
    component = ctx.registry.get("writer", format)
    writer = component.build(component.options_class()(), None)
    rows = []
    shutil.rmtree(target / ASIDE, ignore_errors=True)  # rejected in an earlier state of this run
    for chunk, path in stored_chunks(folder):
        ctx.check_stop()
        first = chunk * ctx.recipe.sample.batch
        x, under = read_chunk(path)
        info = {"seed": sample_seed(ctx), "sampler": head["sampler"], "steps": head["steps"]}
        rows += write_samples(target, writer, first, x, ctx.spec, info, under)
    for row in rows:
        row["id"] = sample_id(row["index"])
    write_manifest(target, rows, head, data_card(ctx.recipe, ctx.spec, head, len(rows)))
