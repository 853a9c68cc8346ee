"""Validation of a fit: averages over held-out batches and scores of samples, with the averaged weights.

The first process alone validates, while the others wait: what it says must not depend on how many there are. Where
weights are cut over processes, all of them go through the same whole batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.engine.ema import Ema
from gen_core.engine.precision import autocast
from gen_core.engine.ranks import Left
from gen_core.engine.soundness import unsound_samples
from gen_core.engine.standing import Interrupted, Standing
from gen_core.errors import Stopped

Batches = Callable[[], Iterable[Batch]]
Scores = Callable[[], dict[str, float]]


class Validation:
    """Of one fit. batches: the held-out ones, anew at each call; scores: more values, of the module as it is then."""

    def __init__(self, now: Standing, ema: Ema, batches: Batches | None, scores: Scores | None) -> None:
        self._now, self._ema, self._batches, self._scores = now, ema, batches, scores

    @torch.no_grad()
    def run(self, select: Callable[[], None]) -> None:
        """Set `values`, and call `select` while the averaged weights are in place; a stop cuts it short."""
        now = self._now
        now.doing = "in validation"
        now.values, now.validated = {}, now.done
        if self._batches is None:
            return
        now.module.eval()
        with self._ema.applied():
            try:
                averages = self._averages(self._batches())
                scores = self._scored()
            except (Interrupted, Stopped, Left) as error:
                now.validated = -1
                if isinstance(error, Left):
                    raise
            else:
                now.values = averages | scores
                select()
        now.module.train()

    def _averages(self, batches: Iterable[Batch]) -> dict[str, float]:
        now = self._now
        sums: dict[str, Tensor] = {}
        count = 0
        for i, batch in enumerate(batches):
            if now.shards:
                now.agree()
            elif now.stop.requested:
                raise Interrupted
            step = now.step("validation", i)
            with now.together(), autocast(now.options.precision, now.device):
                values = now.module.validation_step(batch.to(now.device), step)
            if not all(bool(torch.as_tensor(value).isfinite().all()) for value in values.values()):
                self._refuse_unsound(batch)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + torch.as_tensor(value).detach().double().cpu() * len(batch)
            count += len(batch)
        values = {name: float(total) / count for name, total in sums.items()}
        return now.ranks.told(values) if now.shards else values  # all decide alike which weights are the best

    def _refuse_unsound(self, batch: Batch) -> None:
        """A value that is not finite is bad data, or says something of the weights: then it is never the best."""
        samples = unsound_samples(batch)
        if samples:
            self._now.fail(f"validation: {', '.join(samples[:4])} hold NaN or infinite values", batch.ids)

    def _scored(self) -> dict[str, float]:
        if self._scores is None:
            return {}
        self._now.doing = "scoring samples"
        self._now.step("validation", "scores")  # seeds what a sampler might draw from the global generators
        return self._scores()
