"""More samples of a run whose prior is fitted, beside those that the run drew itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve

from gen_core.engine.join import device_of, joined
from gen_core.engine.stop import StopFlag
from gen_core.errors import UsageError
from gen_core.run.context import RunContext
from gen_core.run.opening import is_smoke, open_run
from gen_core.run.progress import Silent
from gen_core.run.samples.background import Background
from gen_core.run.samples.drawing import draw
from gen_core.run.samples.drawn import Drawn
from gen_core.run.samples.forecast import forecast_samples, shape_of
from gen_core.run.samples.outputs import data_card, write_manifest, write_samples
from gen_core.run.samples.provenance import sample_head
from gen_core.run.samples.sampling import chunks, sample_seed
from gen_core.run.samples.store import sample_id


def sample_more(
    run_dir: str | Path,
    n: int,
    *,
    shard: tuple[int, int] = (1, 1),
    steps: int | None = None,
    sampler: str | None = None,
    format: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    fixed: dict[str, str] | None = None,
    conditions: str | None = None,
    guidance: float | None = None,
    spacing: str | None = None,
    dry_run: bool = False,
    progress: Any = None,
) -> dict[str, Any]:
    """Draw n samples of a finished run into `out`; shard (i, k) takes every k-th chunk. Existing files are kept.

    fixed, conditions, guidance, spacing: as in [sample]; `fixed` adds to the recipe's.
    dry_run: return what it would take.
    The same (run, sampler, steps, seed, conditions) gives the same bytes for every n and every shard count.
    """
    overrides = [f'sampler.use="{sampler}"'] if sampler else []
    overrides += [f'device="{device}"'] if device else []
    overrides += [f"sample.seed={seed}"] if seed is not None else []
    overrides += [f"sample.steps={steps}"] if steps else []
    overrides += [f'sample.format="{format}"'] if format else []
    overrides += [f"sample.guidance={guidance}"] if guidance is not None else []
    overrides += [f'sample.spacing="{spacing}"'] if spacing else []
    overrides += [f'sample.conditions="{conditions}"'] if conditions is not None else []
    recipe, registry, folder = open_run(run_dir, (*overrides, f"sample.n={n}"))
    recipe = evolve(recipe, sample=evolve(recipe.sample, fixed={**recipe.sample.fixed, **(fixed or {})}))
    options = recipe.sample
    name = f"samples-{recipe.table('sampler').use}-{options.steps or 'default'}"
    name += _what_differs(fixed or {}, conditions, guidance, spacing)
    target = Path(out) if out else folder.path / name
    part = "" if shard == (1, 1) else f"{shard[0]}of{shard[1]}"
    if dry_run:
        shape = shape_of(folder)
        if shape is None:
            raise UsageError(f"{run_dir}: step 'prepare' is not finished: the size of a sample is unknown")
        use = recipe.table("sampler").use
        return {"folder": str(target), **forecast_samples(folder, options, use, shape, kept=False, shard=shard)}
    with StopFlag() as stop, joined(stop) as ranks:
        device = device_of(recipe.run.device, ranks)
        ctx = RunContext(recipe, registry, folder, device, progress or Silent(), stop, is_smoke(folder), ranks=ranks)
        written = _write(ctx, chunks(n, options.batch, shard), target, part)
    return {"folder": str(target), "samples": written, "shard": part or "1of1"}


def _what_differs(fixed: dict[str, str], conditions: str | None, guidance: float | None, spacing: str | None) -> str:
    """The end of the folder's name: under what the samples are drawn, where the run was not."""
    under = "".join(f"-{name}-{Path(value).name}" for name, value in sorted(fixed.items()))
    under += f"-{Path(conditions).stem}" if conditions is not None else ""
    under += f"-w{guidance:g}" if guidance is not None else ""
    return under + (f"-{spacing}" if spacing else "")


def _write(ctx: RunContext, work: list[int], target: Path, part: str) -> int:
    """Draw the chunks `work` and write their samples, manifest and card to `target`; how many samples there are."""
    options, ranks = ctx.recipe.sample, ctx.ranks
    component = ctx.registry.get("writer", options.format)
    writer = component.build(component.options_class()(), None)
    head, rows = sample_head(ctx), []
    info = {"seed": sample_seed(ctx), "sampler": head["sampler"], "steps": head["steps"]}

    def write(drawn: Drawn) -> None:
        new = write_samples(target, writer, drawn.chunk * options.batch, drawn.x, ctx.spec, info, drawn.under)
        rows.extend({**row, "id": sample_id(row["index"])} for row in new)

    with Background() as beside:
        for drawn in draw(ctx, work[ranks.rank :: ranks.world]):
            beside.do(write, drawn)
    rows = [row for each in ranks.gathered(rows) for row in each]
    if ranks.leads:
        write_manifest(target, rows, head, data_card(ctx.recipe, ctx.spec, head, len(rows)), part)
    return len(rows)
