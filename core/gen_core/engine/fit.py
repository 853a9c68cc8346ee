"""The fit loop: batches in, weights out; it can be killed anywhere and goes on to the same bits.

One step: seed from (seed, stage, step), run the micro-batches, back-propagate each group's loss into that
group's parameters, check that all is finite, clip, step, average. Whatever a step draws comes from its own
generator, and data order is a function of the step, so a checkpoint holds weights, optimizer state and a few
numbers, and no state of any generator.

What a trainable may rely on: when a step is tried again with smaller micro-batches, or given up because a stop
was asked for, its buffers are put back as they were before the step. State outside buffers must only change in
`updated` and `epoch_started`; what `training_step` gathers for `updated` starts anew at `step.micro == 0`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from attrs import Factory, frozen
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.engine import order
from gen_core.engine.device import peak_memory, resolve_device
from gen_core.engine.ema import Ema
from gen_core.engine.events import EventLog
from gen_core.engine.gradients import Gradients, Part
from gen_core.engine.optimizers import Group, lr_factor, make_groups
from gen_core.engine.ranks import STOP, Left, Ranks
from gen_core.engine.records import Records
from gen_core.engine.rescue import Rescue
from gen_core.engine.rollback import out_of_memory
from gen_core.engine.source import TrainingSource
from gen_core.engine.standing import Interrupted, Standing
from gen_core.engine.stop import StopFlag
from gen_core.engine.validation import Validation
from gen_core.engine.whole_layers import whole_layers
from gen_core.errors import RecipeError, RunError
from gen_core.options import FitOptions
from gen_core.trainable import Trainable

PROGRESS_SECONDS = 0.25  # at least so long between two updates of the display


class Progress(Protocol):
    """What shows how far a fit is. speed: steps per second of late; values: the latest averages."""

    def update(self, stage: str, step: int, total: int, values: dict[str, float], speed: float) -> None: ...


@frozen
class FitSummary:
    """What a fit reached. values: the last validation's; best: the selected value and its step, or None.

    seconds: spent training over all sittings. peak_memory: bytes. notes: what a user should be told.
    """

    steps: int
    weights: Path
    values: dict[str, float]
    best: float | None
    best_step: int | None
    seconds: float
    peak_memory: int
    resumed_from: int | None = None
    notes: list[str] = Factory(list)


def fit(
    trainable: Trainable,
    source: TrainingSource,
    options: FitOptions,
    *,
    folder: Path,
    stage: str,
    seed: int,
    device: torch.device | str = "cpu",
    events: EventLog | None = None,
    validation: Callable[[], Iterable[Batch]] | None = None,
    scores: Callable[[], dict[str, float]] | None = None,
    stop: StopFlag | None = None,
    progress: Progress | None = None,
    header: dict[str, Any] | None = None,
    ranks: Ranks | None = None,
) -> FitSummary:
    """Fit `trainable` and leave weights.safetensors and weights.json in `folder`; goes on from its checkpoints.

    On return the module holds the weights that were written: the averaged ones where `options.ema` is on, the
    best by `options.select` where that is set; cut over the processes with `options.shard`.
    header: JSON kept with the weights (recipe, plugin versions).
    scores: more validation values, of the module as it is when called (averaged weights, eval mode); asked before the
    first step too, which tells what is wrong with them before the fit and where it started.
    ranks: the processes that share each batch; all of them call this with the same arguments, and what events,
    progress and scores say is the first one's business.

    Raises: RecipeError for settings that do not fit; Stopped after a checkpoint when `stop` was requested;
    RunError for NaN, lack of memory or disk space, a dead worker.
    """
    device = resolve_device(device) if isinstance(device, str) else device
    ranks = ranks or Ranks()
    now = Standing(trainable, len(source), options, folder, stage, seed, device, ranks)
    now.stop, now.header = stop or StopFlag(), header or {}
    if ranks.leads:
        now.events = events
    else:
        scores = progress = None
        validation = validation if options.shard else None
    rng = torch.get_rng_state()
    try:
        with ranks.agreeing(), whole_layers(trainable, ranks):
            loop = _Fit(now, source, validation, scores, progress)
            try:
                return loop.run()
            except Left as left:
                loop.leave(left)
                raise
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # a training step is tried again in smaller pieces; nothing else can be
        raise RunError(f"{stage}: out of memory after step {now.done}, {now.doing}") from error
    finally:
        torch.set_rng_state(rng)
        source.close()


class _Fit:
    """The loop."""

    def __init__(
        self,
        now: Standing,
        source: TrainingSource,
        validation: Callable[[], Iterable[Batch]] | None,
        scores: Callable[[], dict[str, float]] | None,
        progress: Progress | None,
    ) -> None:
        options, module = now.options, now.module
        if options.batch % options.accumulate:
            raise RecipeError(f"fit.batch = {options.batch} is not divisible by fit.accumulate = {options.accumulate}")
        if not now.n:
            raise RunError(f"{now.stage}: there is no training volume")
        self.now, self.source, self.progress = now, source, progress
        self.has_validation, self.has_scores = validation is not None, scores is not None
        if options.shard:
            now.cut()
        module.to(now.device)
        module.checkpoint_activations(options.checkpoint_activations)
        self.groups: dict[str, Group] = make_groups(module, options, now.shards.pieces)
        self.ema = Ema(module, options.ema, options.ema_start, options.ema_every, now.shards.pieces)
        self.records = Records(now, self.groups, self.ema)
        self.validation = Validation(now, self.ema, validation, scores)
        self._shown: dict[str, float] = {}

    def run(self) -> FitSummary:
        now, options = self.now, self.now.options
        if options.select and not self.has_validation and now.ranks.leads:
            raise RecipeError(f"fit.select = '{options.select}' needs validation data, and there are none")
        try:
            now.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{now.folder}: cannot be made: {error.strerror or error}") from error
        resumed = self.records.resume()
        self._tick = (time.monotonic(), now.done)
        now.module.train()
        self._settle()
        self.rescue = Rescue(now.stop)
        self.gradients = Gradients(now, self.groups, self.rescue)
        self._stream = self._open()
        try:
            while (batch := self._next()) is not None:
                self._check_stop()
                if order.starts_epoch(now.done, options.batch, now.n) and now.hooked != now.done:
                    self._start_epoch()
                self._one_step(batch)
                if now.done % options.log_every == 0 or now.done == options.steps:
                    self._log()
                self._show()
                self._settle()
        finally:
            self.rescue.close()
            self._stream.close()
        path = self.records.finish()
        best = now.best or {}
        return FitSummary(
            steps=now.done,
            weights=path,
            values=now.values,
            best=best.get("value"),
            best_step=best.get("step"),
            seconds=time.monotonic() - self.records.began,
            peak_memory=peak_memory(now.device),
            resumed_from=resumed,
            notes=now.notes,
        )

    def leave(self, left: Left) -> None:
        """What is left to do when all processes leave: save for a stop, tell what failed. Raises: Stopped."""
        now = self.now
        if left.kind == STOP:
            with suppress(Left, RunError):  # a checkpoint without them is still one
                self.records.hear_averages()
            self.records.save()
            error = now.stopped(left.said.get("reason") or "a signal")
            error.agreed, error.told = True, not now.ranks.leads  # type: ignore[attr-defined]
            raise error from left
        if left.said.get("event"):
            now.event(left.said["event"], message=left.said["message"])

    def _open(self) -> Generator[Batch, None, None]:
        """The batches from now on: of several processes, our part of each."""
        now, options = self.now, self.now.options
        ours = None
        if now.ranks.world > 1:
            ours = order.positions_of(options.batch, now.micro_batches, now.ranks.rank, now.ranks.world)
        return _generator(self.source.stream(order.plan(now.seed, now.done, options.steps, options.batch, now.n, ours)))

    def _next(self) -> Batch | None:
        self.now.doing = "reading data"
        with self.rescue.held_up(lambda: self.records.save(self.now.module.state_dict())):
            return next(self._stream, None)

    def _again(self) -> Batch:
        """Our part of the batch of now, cut for other micro-batches than before."""
        self._stream.close()
        self._stream = self._open()
        batch = self._next()
        assert batch is not None
        return batch

    def _settle(self) -> None:
        """Do what is due after `done` steps and was not done yet: validation, then the checkpoint."""
        now, options = self.now, self.now.options
        last = now.done == options.steps
        due = lambda every: last or (now.done > 0 and every > 0 and now.done % every == 0)
        first = now.done == 0 and self.has_scores and options.validate_every > 0
        if (now.ranks.leads or now.shards) and now.validated != now.done and (first or due(options.validate_every)):
            self._check_stop()
            self._validate()
        if due(options.checkpoint_every):
            self.records.require_alike()
            self.records.hear_averages()
            self.records.save()

    def _check_stop(self) -> None:
        now = self.now
        if now.stop.requested:
            if now.ranks.world > 1:
                now.ranks.exchange(STOP, {"reason": now.stop.requested})
            self.records.save()
            raise now.stopped(now.stop.requested)

    def _start_epoch(self) -> None:
        now = self.now
        now.doing = "at the start of an epoch"
        step = now.step("epoch", now.epoch)
        with torch.no_grad():
            values = now.module.epoch_started(step.epoch, step)
        now.module.train()
        now.hooked = now.done
        if values:
            now.event("epoch", values, epoch=step.epoch)

    def _one_step(self, batch: Batch) -> None:
        now, rollback = self.now, self.gradients.rollback
        save = lambda: self.records.save(rollback.state_dict())
        try:
            parts, norms = self.gradients.of(batch, save, self._again)
        except Interrupted:
            self._check_stop()
            raise AssertionError("interrupted without a stop") from None
        self.gradients.require_finite(parts, norms, batch)
        now.doing = "updating the weights"
        factor = lr_factor(now.done, now.options)
        step = now.step(now.done, "updated")
        for name, norm in norms.items():
            group = self.groups[name]
            if group.clip > 0:
                nn.utils.clip_grads_with_norm_(group.parameters, group.clip, norm, foreach=True)
            group.step(factor)
            with torch.no_grad():
                now.module.updated(name, step)
        now.done += 1
        self.ema.update(now.done)
        self._gather(parts, norms)

    def _gather(self, parts: list[Part], norms: dict[str, Tensor]) -> None:
        """Add to the averages, on the device. The first group's names stay bare, the others' are prefixed."""
        first = next(iter(self.groups))
        for part in parts:
            prefix = "" if part.group == first else f"{part.group}/"
            values = {"loss": part.total, **part.losses, **part.logs}
            self.now.averages.add({prefix + name: value for name, value in values.items()}, part.weight)
        for group, norm in norms.items():
            self.now.averages.add({("" if group == first else f"{group}/") + "grad_norm": norm})

    def _log(self) -> None:
        """Write the averages since the last time: the only look from the host beside the finite check."""
        now = self.now
        self._shown = self.now.averages.take(now.ranks)
        self._shown["lr"] = next(iter(self.groups.values())).lr * lr_factor(now.done - 1, now.options)
        epoch = order.epoch_of(now.done - 1, now.options.batch, now.n)
        now.event("train", self._shown, epoch=epoch)

    def _show(self) -> None:
        now, clock, (then, before) = self.now, time.monotonic(), self._tick
        if self.progress is None or (clock - then < PROGRESS_SECONDS and now.done < now.options.steps):
            return
        self._tick = (clock, now.done)
        speed = (now.done - before) / max(clock - then, 1e-9)
        self.progress.update(now.stage, now.done, now.options.steps, self._shown, speed)

    def _validate(self) -> None:
        now = self.now
        self.validation.run(self.records.select)
        if not self.has_validation:
            return
        self._check_stop()
        now.event("validation", now.values, best=now.best)
        self._tick = (time.monotonic(), now.done)


def _generator(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Any iterable as a generator, which can be closed."""
    yield from batches
