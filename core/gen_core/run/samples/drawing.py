"""Samples chunk by chunk: conditions, latents, volumes; what `sample`, `gen sample` and the store of samples share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gen_core.prior import DiffusionPrior
from gen_core.run.context import RunContext
from gen_core.run.promises import require_promised
from gen_core.run.samples.conditions import SampleConditions
from gen_core.run.samples.drawn import Drawn, Under
from gen_core.run.samples.sampling import Launched, Recorded, indices_of, launch_chunk, sample_seed


def draw(ctx: RunContext, work: list[int]) -> Iterator[Drawn]:
    """Each chunk number in `work`, cut to [sample] n; stops between chunks when asked.

    A GPU is asked for the next chunk before the last is handed on: it computes while the caller writes.
    """
    waiting: deque[tuple[Launched, list[Under]]] = deque()
    ahead = 0 if ctx.device.type == "cpu" else 1
    of, volumes, done = ctx.recipe.sample, 0, 0

    def next_drawn() -> Drawn:
        nonlocal volumes, done
        chunk, under = waiting.popleft()
        z, x, seconds = chunk.finished()
        require_promised(x, (of.batch, *ctx.spec.shape), f"sampling: chunk {chunk.chunk}: [codec] decodes to")
        keep = min(of.batch, of.n - chunk.chunk * of.batch)
        volumes, done = volumes + keep, done + 1
        return Drawn(chunk.chunk, z[:keep], x[:keep], seconds, under[:keep])

    def told() -> None:
        ctx.progress.update("sample", done, len(work), {"volumes": volumes}, None)

    for asked_for in _launched(ctx, work):
        waiting.append(asked_for)
        if len(waiting) > ahead:
            yield next_drawn()
            told()
    while waiting:
        yield next_drawn()
        told()


def _launched(ctx: RunContext, work: list[int]) -> Iterator[tuple[Launched, list[Under]]]:
    """Each chunk as the device was asked for it, and what each of its samples is drawn under."""
    options, seed, recorded = ctx.recipe.sample, sample_seed(ctx), None
    conditions = SampleConditions(ctx, seed) if ctx.recipe.conditions else None
    if ctx.device.type == "cuda" and isinstance(ctx.prior(), DiffusionPrior):
        recorded = Recorded(ctx.prior(), options, ctx.device, ctx.progress.say)
    for chunk in work:
        ctx.check_stop()
        cond, carriers = conditions.of(indices_of(chunk, options.batch)) if conditions else (None, [])
        launched = launch_chunk(
            chunk,
            prior=ctx.prior(),
            sampler=ctx.sampler(),
            codec=ctx.codec(),
            options=options,
            seed=seed,
            device=ctx.device,
            cond=cond.to(ctx.device) if cond else None,
            recorded=recorded,
        )
        yield launched, [conditions.under(c) for c in carriers] if conditions else [Under()] * options.batch
