"""Samples chunk by chunk: conditions, latents, volumes; what `sample`, `gen sample` and the store of samples share."""

from __future__ import annotations

from collections.abc import Iterator

from gen_core.run.context import RunContext
from gen_core.run.drawn import Drawn, Under
from gen_core.run.sample_conditions import SampleConditions
from gen_core.run.sampling import draw_chunk, indices_of, sample_seed


def draw(ctx: RunContext, work: list[int]) -> Iterator[Drawn]:
    """Each chunk number in `work`, cut to [sample] n; stops between chunks when asked."""
    options, seed, volumes = ctx.recipe.sample, sample_seed(ctx), 0
    conditions = SampleConditions(ctx, seed) if ctx.recipe.conditions else None
    for k, chunk in enumerate(work):
        ctx.check_stop()
        cond, carriers = conditions.of(indices_of(chunk, options.batch)) if conditions else (None, [])
        z, x, seconds = draw_chunk(
            chunk,
            prior=ctx.prior(),
            sampler=ctx.sampler(),
            codec=ctx.codec(),
            options=options,
            seed=seed,
            device=ctx.device,
            cond=cond.to(ctx.device) if cond else None,
        )
        keep = min(options.batch, options.n - chunk * options.batch)
        under = [conditions.under(c) for c in carriers[:keep]] if conditions else [Under() for _ in range(keep)]
        yield Drawn(chunk, z[:keep], x[:keep], seconds, under)
        volumes += keep
        ctx.progress.update("sample", k + 1, len(work), {"volumes": volumes}, None)
