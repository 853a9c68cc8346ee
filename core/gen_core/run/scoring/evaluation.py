"""Evaluation: every source streamed once through all metrics that want it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from gen_core.batch import Batch, samples_of
from gen_core.condition import Conditions
from gen_core.engine.memory import give_back
from gen_core.errors import RecipeError
from gen_core.metric import SOURCES, Metric
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.promises import require_promised
from gen_core.run.samples.store import accepted_samples, all_samples
from gen_core.run.scoring.parts import Part, Parts

GIVE_BACK_EVERY = 16  # volumes, after which freed memory goes back to the system


class EvaluationContext:
    """The `MetricContext` of a run."""

    def __init__(self, ctx: RunContext, counts: dict[str, int], disjoint: bool = True):
        self._ctx = ctx
        self.spec, self.seed, self.device = ctx.spec, ctx.recipe.evaluate.seed, ctx.device
        self.counts = counts
        self.real_splits_disjoint = disjoint
        self.cost = ctx.cost()
        self.cache = ctx.cache
        self.prepared = read_json(ctx.folder.step("prepare") / "prepared.json") or {}

    def codec(self) -> Any:
        return self._ctx.codec()

    def prior(self) -> Any:
        return self._ctx.prior()

    def features(self, table: str) -> Any:
        return self._ctx.features(table)

    def segmenter(self, table: str) -> Any:
        return self._ctx.segmenter(table)

    def conditions(self, batch: Batch) -> Conditions:
        if not self._ctx.recipe.conditions:
            return Conditions()
        return self._ctx.conditioner().of(samples_of(batch)).to(batch.x.device)


@torch.no_grad()
def reconstructions(ctx: RunContext, batches: Iterable[Batch]) -> Iterator[Batch]:
    """decode(encode(x)) of each batch, with `reference` the original and its masks."""
    codec = ctx.codec()
    for batch in batches:
        x_hat = codec.decode(codec.encode(batch.x)).float()
        require_promised(x_hat, batch.x.shape, f"[codec] reconstructs {', '.join(batch.ids[:4])} as")
        yield Batch(
            x=x_hat,
            ids=batch.ids,
            subjects=batch.subjects,
            hashes=batch.hashes,
            reference=batch.x,
            masks=batch.masks,
            condition=batch.condition,
            present=batch.present,
        )


Sources = dict[str, tuple[int, Callable[[], Iterable[Batch]]]]
"""Source name -> (how many volumes, how to stream them)."""


def run_sources(ctx: RunContext, rejected: bool = False) -> Sources:
    """The sources that this run has: real splits, reconstructions once encoded, accepted samples once drawn.

    rejected: samples that were set aside are streamed too.
    """
    options = ctx.recipe.evaluate
    size, limit = options.batch, options.volumes
    count = lambda n: min(n, limit) if limit else n
    sources: Sources = {}
    for name in ("train", "val"):
        split = ctx.split(name)
        sources[name] = (count(len(split)), lambda split=split: ctx.batches(split, size, limit))
    if ctx.folder.done("encode"):
        for name, origin in (("reconstruction", "val"), ("reconstruction-train", "train")):
            n, batches = sources[origin]
            sources[name] = (n, lambda batches=batches: reconstructions(ctx, batches()))
    if ctx.folder.done("sample"):
        samples = all_samples(ctx.folder, ctx.recipe) if rejected else accepted_samples(ctx.folder, ctx.recipe)
        sources["synthetic"] = (count(len(samples)), lambda: ctx.batches(samples, size, limit))
    return {name: sources[name] for name in SOURCES if name in sources}


def build_metrics(ctx: RunContext, context: EvaluationContext, tables: list[Any]) -> dict[str, Metric]:
    """The metrics of these tables by name. Raises: RecipeError when one needs what the run lacks."""
    metrics: dict[str, Metric] = {}
    for table in tables:
        metric = table.component.build(table.options, context)
        lacking = [need for need in ("codec", "prior") if need in metric.needs and need not in ctx.recipe.tables]
        if lacking:
            raise RecipeError(f"{ctx.recipe.path}: [{table.name}] needs a [{lacking[0]}] table")
        metrics[table.name.removeprefix("metrics.")] = metric
    return metrics


@torch.no_grad()
def _stream(
    ctx: RunContext, sources: Sources, tables: list[Any], step: str, parts: Parts | None = None
) -> dict[str, Metric]:
    """The metrics of these tables, each having seen every source it wants; those of a part as "name, part"."""
    parts = parts or Parts()
    streamed = {name: n for name, (n, _) in sources.items()}
    metrics: dict[str, tuple[Metric, Part]] = {}
    for part in parts.parts:
        context = EvaluationContext(ctx, parts.counts(part, streamed))
        asked = tables if part.tables is None else [t for t in tables if t.name in part.tables]
        label = f", {part.label}" if part.label else ""
        built = build_metrics(ctx, context, asked).items()
        metrics |= {f"{name}{label}": (metric, part) for name, metric in built}
    wanted = [name for name in sources if any(name in m.sources for m, _ in metrics.values())]
    total, seen = sum(sources[name][0] for name in wanted), 0
    for name in wanted:
        for batch in sources[name][1]():
            views = {part: part.of_batch(batch, name, parts.aside) for part in parts.parts}
            for metric, part in metrics.values():
                view = views[part]
                if name in metric.sources and view is not None:
                    metric.update(view, name)
            if seen // GIVE_BACK_EVERY != (seen + len(batch)) // GIVE_BACK_EVERY:
                give_back()
            seen += len(batch)
            ctx.progress.update(step, seen, total, {}, None)
    return {name: metric for name, (metric, _) in metrics.items()}


def evaluate_sources(
    ctx: RunContext, sources: Sources, parts: Parts | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(results by metric name, those that depend on the clock), as JSON; parts: what is scored once more."""
    results, timed = {}, {}
    for name, metric in _stream(ctx, sources, ctx.recipe.tables_of("metric"), "evaluate", parts).items():
        ctx.check_stop()
        result = metric.compute()
        (timed if result.timing else results)[name] = result.to_json()
    return results, timed


def evaluate_judges(ctx: RunContext, sources: Sources, by: tuple[str, ...]) -> dict[str, list[str]]:
    """Sample id -> reasons, each "metric: why", of every sample that one of the metrics `by` finds unfit."""
    reasons: dict[str, list[str]] = {}
    for name, metric in _stream(ctx, sources, [ctx.recipe.table(t) for t in by], "reject").items():
        ctx.check_stop()
        for id_, why in metric.judge().items():
            reasons.setdefault(id_, []).append(f"{name}: {why}")
    return dict(sorted(reasons.items()))
