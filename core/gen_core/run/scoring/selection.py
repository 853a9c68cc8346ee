"""Weights chosen by samples: at each validation a prior draws a few, and a metric of the recipe scores them.

[prior.fit] select = "metrics.fid" keeps the weights whose samples lie nearest to the validation volumes, because the
loss of a prior says little of its samples, and of a GAN nothing. Every validation draws from the same noise, under
the same conditions: the values differ by the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from attrs import evolve
from torch import Tensor

from gen_core.batch import Batch, collate
from gen_core.engine.precision import autocast
from gen_core.engine.seeds import sample_noise, stable_seed
from gen_core.errors import RecipeError
from gen_core.metric import Metric
from gen_core.options import METRICS, FitOptions
from gen_core.prior import Prior
from gen_core.run.context import RunContext
from gen_core.run.samples.conditions import SampleConditions
from gen_core.run.samples.drawn import Under
from gen_core.run.samples.sampling import chunks, indices_of, latents_from, noise_shape
from gen_core.run.samples.store import sample_id
from gen_core.run.scoring.evaluation import EvaluationContext
from gen_core.volume import Sample

SOURCES = ("val", "synthetic")  # all that the metric sees
NAN = float("nan")


def selects_by_samples(fit: FitOptions) -> bool:
    """Whether `fit.select` names a metric table, not a value of `validation_step`."""
    return fit.select.startswith(METRICS)


class _Context(EvaluationContext):
    """A `MetricContext` while the prior is not there yet."""

    def prior(self) -> Any:
        raise RecipeError("[prior.fit] select: a metric that asks for the fitted prior cannot choose its weights")


class SampleScores:
    """What `fit` calls at each validation: {"metrics.NAME": value} of the prior as it is then.

    Raises: RecipeError for a metric that does not look at samples, or looks at more than samples and validation.
    """

    def __init__(self, ctx: RunContext, prior: Prior, fit: FitOptions):
        self.ctx, self.prior, self.fit = ctx, prior, fit
        self.table = ctx.recipe.table(fit.select)
        n = fit.select_samples
        self.options = evolve(
            ctx.recipe.sample, n=n, batch=min(ctx.recipe.sample.batch, n), steps=self._steps(fit.select_steps)
        )
        self.seed = stable_seed(ctx.seed, "select", ctx.recipe.sample.seed)
        metric = self._metric()
        if "synthetic" not in metric.sources or "prior" in metric.needs:
            raise RecipeError(f"{self._where}: it does not score samples by themselves")

    @property
    def _where(self) -> str:
        return f"{self.ctx.recipe.path}: [prior.fit] select = '{self.fit.select}'"

    def _steps(self, steps: int) -> int:
        """Sampling steps; a discrete schedule has no more than its own."""
        most = getattr(getattr(self.prior, "path", None), "steps", None)
        return min(steps, most) if most else steps

    def _metric(self) -> Metric:
        volumes = min(len(self.ctx.split("val")), self.fit.validate_volumes)
        context = _Context(self.ctx, {"val": volumes, "synthetic": self.options.n})
        return self.table.component.build(self.table.options, context)

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """The metric's first value of samples; NaN, which is never the best, where samples are not finite.

        Raises: Stopped when a signal asked for it; RecipeError when the metric gives no value of so few samples.
        """
        drawn = list(self.samples())
        if not all(bool(batch.x.isfinite().all()) for batch in drawn):
            return {self.fit.select: NAN}
        metric, ctx = self._metric(), self.ctx
        real = ctx.batches(ctx.split("val"), ctx.recipe.evaluate.batch, self.fit.validate_volumes)
        sources: dict[str, Iterable[Batch]] = {"val": real, "synthetic": drawn}
        for name in SOURCES:
            if name in metric.sources:
                for batch in sources[name]:
                    ctx.check_stop()
                    metric.update(batch, name)
        result = metric.compute()
        values = [value for value in result.values if value.source == "synthetic"]
        if not values or not math.isfinite(values[0].value):
            why = result.protocol.get("refused") or result.protocol.get("note") or ""
            raise RecipeError(
                f"{self._where}: no value of {self.options.n} samples and "
                f"{min(len(ctx.split('val')), self.fit.validate_volumes)} validation volumes"
                f"{f' ({why})' if why else ''}; raise select_samples or validate_volumes"
            )
        better, mode = values[0].better, self.fit.select_mode
        if (better, mode) in (("higher", "min"), ("lower", "max")):
            raise RecipeError(f"{self._where}: {better} is better, but select_mode = '{mode}'")
        return {self.fit.select: float(values[0].value)}

    def samples(self) -> Iterator[Batch]:
        """The samples, chunk by chunk, from noise that is the same at every call."""
        ctx, options = self.ctx, self.options
        conditions = SampleConditions(ctx, self.seed) if ctx.recipe.conditions else None
        sampler, codec = ctx.sampler(), ctx.codec()
        for chunk in chunks(options.n, options.batch):
            indices = [i for i in indices_of(chunk, options.batch) if i < options.n]
            cond, carriers = conditions.of(indices) if conditions else (None, [])
            noise = sample_noise(self.seed, indices, noise_shape(self.prior), ctx.device)
            z = latents_from(
                noise, self.prior, sampler, options, ctx.device,
                watch=lambda *_: ctx.check_stop(),
                cond=cond.to(ctx.device) if cond else None,
            )  # fmt: skip
            with autocast(options.precision, ctx.device):
                x = codec.decode(z).float().cpu()
            under = [conditions.under(c) for c in carriers] if conditions else [Under() for _ in indices]
            yield collate([_as_sample(i, x[k], under[k]) for k, i in enumerate(indices)]).to(ctx.device)


def _as_sample(index: int, x: Tensor, under: Under) -> Sample:
    """A sample as the store of samples would hand it on."""
    name = sample_id(index)
    values = {key: value for key, value in under.values.items() if value is not None}
    return Sample(x.numpy(), id=name, subject=name, hash=name, masks=under.masks, condition=values)
