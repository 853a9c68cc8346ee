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

import gc
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from attrs import Factory, asdict, define, frozen
from torch import Tensor, nn

from gen_core import atomic
from gen_core.batch import Batch
from gen_core.engine import checkpoint as ckpt
from gen_core.engine import order, seeds
from gen_core.engine.averages import Averages
from gen_core.engine.device import peak_memory, resolve_device
from gen_core.engine.ema import Ema
from gen_core.engine.events import EventLog, plain
from gen_core.engine.optimizers import Group, lr_factor, make_groups
from gen_core.engine.precision import autocast
from gen_core.engine.rescue import Rescue
from gen_core.engine.rollback import Rollback, out_of_memory
from gen_core.engine.source import TrainingSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, RunError, Stopped
from gen_core.options import FitOptions
from gen_core.trainable import GroupLoss, Step, Trainable

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
) -> FitSummary:
    """Fit `trainable` and leave weights.safetensors and weights.json in `folder`; goes on from its checkpoints.

    On return the module holds the weights that were written: the averaged ones where `options.ema` is on, the
    best by `options.select` where that is set. header: JSON kept with the weights (recipe, plugin versions).
    scores: more validation values, of the module as it is when called (averaged weights, eval mode); asked before the
    first step too, which tells what is wrong with them before the fit and where it started.

    Raises: RecipeError for settings that do not fit; Stopped after a checkpoint when `stop` was requested;
    RunError for NaN, lack of memory or disk space, a dead worker.
    """
    device = resolve_device(device) if isinstance(device, str) else device
    loop = _Fit(trainable, source, options, folder, stage, seed, device)
    loop.events, loop.validation, loop.scores, loop.progress = events, validation, scores, progress
    loop.stop, loop.header = stop or StopFlag(), header or {}
    rng = torch.get_rng_state()
    try:
        return loop.run()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        # a training step is tried again in smaller pieces; nothing else can be
        raise RunError(f"{stage}: out of memory after step {loop.done}, {loop.doing}") from error
    finally:
        torch.set_rng_state(rng)
        source.close()


class _Interrupted(Exception):
    """A stop was asked for in the middle of a step, which is given up."""


@define(eq=False)
class _Part:
    """What one micro-batch yielded for one group: kept to name the culprit and to log."""

    group: str
    ids: list[str]
    weight: float
    total: Tensor
    losses: dict[str, Tensor]
    logs: dict[str, Tensor]


class _Fit:
    """The state of one running fit."""

    def __init__(
        self,
        module: Trainable,
        source: TrainingSource,
        options: FitOptions,
        folder: Path,
        stage: str,
        seed: int,
        device: torch.device,
    ) -> None:
        if options.batch % options.accumulate:
            raise RecipeError(f"fit.batch = {options.batch} is not divisible by fit.accumulate = {options.accumulate}")
        if not len(source):
            raise RunError(f"{stage}: there is no training volume")
        self.module, self.source, self.options = module, source, options
        self.folder, self.stage, self.seed, self.device = folder, stage, seed, device
        self.checkpoints = folder / "checkpoints"
        module.to(device)
        module.checkpoint_activations(options.checkpoint_activations)
        self.parameters = list(module.parameters())
        self.groups: dict[str, Group] = make_groups(module, options)
        self.ema = Ema(module, options.ema, options.ema_start, options.ema_every)
        self.events: EventLog | None = None
        self.validation: Callable[[], Iterable[Batch]] | None = None
        self.scores: Callable[[], dict[str, float]] | None = None
        self.progress: Progress | None = None
        self.header: dict[str, Any] = {}
        self.stop = StopFlag()
        self.done = 0  # optimizer steps
        self.micro_batches = options.accumulate  # grows when memory runs out
        self.hooked = -1  # the step before which epoch_started was last called
        self.validated = -1  # the number of steps after which validation last ran
        self.saved = -1  # the number of steps of the newest checkpoint
        self.values: dict[str, float] = {}
        self.best: dict[str, Any] | None = None  # {"value", "step", "name"}
        self.seconds = 0.0
        self.doing = "starting"  # in words, for the message when memory runs out
        self.notes: list[str] = []
        self.averages = Averages(device)
        self.rollback = Rollback(module)
        self._shown: dict[str, float] = {}

    # The loop

    def run(self) -> FitSummary:
        options = self.options
        if options.select and self.validation is None:
            raise RecipeError(f"fit.select = '{options.select}' needs validation data, and there are none")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be made: {error.strerror or error}") from error
        atomic.sweep(self.folder)
        resumed = self._resume()
        self._began = time.monotonic() - self.seconds
        self._tick = (time.monotonic(), self.done)
        self.module.train()
        self._settle()
        n = len(self.source)
        stream = _generator(self.source.stream(order.plan(self.seed, self.done, options.steps, options.batch, n)))
        self.rescue = Rescue(self.stop)
        try:
            while (batch := self._next(stream)) is not None:
                self._check_stop()
                if order.starts_epoch(self.done, options.batch, n) and self.hooked != self.done:
                    self._start_epoch()
                self._one_step(batch)
                if self.done % options.log_every == 0 or self.done == options.steps:
                    self._log()
                self._show()
                self._settle()
        finally:
            self.rescue.close()
            stream.close()
        path = self._finish()
        best = self.best or {}
        return FitSummary(
            steps=self.done,
            weights=path,
            values=self.values,
            best=best.get("value"),
            best_step=best.get("step"),
            seconds=time.monotonic() - self._began,
            peak_memory=peak_memory(self.device),
            resumed_from=resumed,
            notes=self.notes,
        )

    def _next(self, stream: Iterator[Batch]) -> Batch | None:
        self.doing = "reading data"
        with self.rescue.held_up(self._save):
            return next(stream, None)

    def _settle(self) -> None:
        """Do what is due after `done` steps and was not done yet: validation, then the checkpoint."""
        options, done = self.options, self.done
        last = done == options.steps
        due = lambda every: last or (done > 0 and every > 0 and done % every == 0)
        first = done == 0 and self.scores is not None and options.validate_every > 0
        if self.validated != done and (first or due(options.validate_every)):
            self._check_stop()
            self._validate()
        if due(options.checkpoint_every):
            self._save()

    def _check_stop(self) -> None:
        if self.stop.requested:
            self._save()
            raise Stopped(
                f"{self.stage}: stopped by {self.stop.requested} after step {self.done} of {self.options.steps}; "
                "the same command goes on from there"
            )

    def _step(self, *key: seeds.Key, micro: int = 0) -> Step:
        """The Step of now, with generators seeded from (seed, stage, *key)."""
        seeds.seed_global(self.seed, self.stage, *key, "global")
        return Step(
            index=self.done,
            epoch=order.epoch_of(self.done, self.options.batch, len(self.source)),
            total=self.options.steps,
            generator=seeds.generator(self.seed, self.stage, *key, device=self.device),
            device=self.device,
            micro=micro,
        )

    def _start_epoch(self) -> None:
        self.doing = "at the start of an epoch"
        step = self._step("epoch", order.epoch_of(self.done, self.options.batch, len(self.source)))
        with torch.no_grad():
            values = self.module.epoch_started(step.epoch, step)
        self.module.train()
        self.hooked = self.done
        if values:
            self._event("epoch", values, epoch=step.epoch)

    # One step

    def _one_step(self, batch: Batch) -> None:
        try:
            parts = self._gradients(batch)
        except _Interrupted:
            self._check_stop()
            raise AssertionError("interrupted without a stop") from None
        yielded = list(dict.fromkeys(part.group for part in parts))
        norms = {name: self._norm(self.groups[name]) for name in yielded}
        self._require_finite(parts, norms, batch)
        self.doing = "updating the weights"
        factor = lr_factor(self.done, self.options)
        step = self._step(self.done, "updated")
        for name in yielded:
            group = self.groups[name]
            if group.clip > 0:
                nn.utils.clip_grads_with_norm_(group.parameters, group.clip, norms[name], foreach=True)
            group.step(factor)
            with torch.no_grad():
                self.module.updated(name, step)
        self.done += 1
        self.ema.update(self.done)
        self._gather(parts, norms)

    def _gradients(self, batch: Batch) -> list[_Part]:
        """Run all micro-batches; when memory runs out, all again in twice as many."""
        self.doing = "in the training step"
        self.rollback.remember()
        while True:
            try:
                # a long step keeps the loop from seeing a stop; only buffers and gradients change in it
                with self.rescue.held_up(lambda: self._save(self.rollback.state_dict())):
                    return self._micro_batches(batch)
            except _Interrupted:
                self._drop_gradients()
                self.rollback.restore()
                raise
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self.micro_batches >= self.options.batch:
                    raise RunError(
                        f"{self.stage}: out of memory in step {self.done + 1} with one sample at a time "
                        f"({', '.join(batch.ids[:1])}); use a smaller volume or network, bf16, or "
                        "fit.checkpoint_activations = true"
                    ) from error
            # outside the except block, so that the traceback no longer holds the failed attempt's tensors
            self._drop_gradients()
            self.rollback.restore()
            self.micro_batches = min(2 * self.micro_batches, self.options.batch)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            note = f"out of memory in step {self.done + 1}: going on with {self.micro_batches} micro-batches"
            self.notes.append(note)
            self._event("out-of-memory", micro_batches=self.micro_batches, message=note)

    def _micro_batches(self, batch: Batch) -> list[_Part]:
        self._drop_gradients()
        parts: list[_Part] = []
        for micro in range(self.micro_batches):
            first, last = order.batch_slice(len(batch), micro, self.micro_batches)
            piece = batch if self.micro_batches == 1 else batch.part(first, last)
            piece = piece.to(self.device)
            step = self._step(self.done, micro, 0, micro=micro)
            losses = iter(self.module.training_step(piece, step))
            while True:
                if self.stop.requested:
                    raise _Interrupted
                with autocast(self.options.precision, self.device):
                    item = next(losses, None)
                if item is None:
                    break
                # weight: 1 / micro_batches when they are equal
                parts.append(self._backward(item, piece, (last - first) / len(batch)))
        return parts

    def _backward(self, item: GroupLoss, batch: Batch, weight: float) -> _Part:
        group = self.groups.get(item.group)
        assert group is not None, f"{type(self.module).__name__} yields unknown group '{item.group}'"
        total = torch.stack([loss.float() for loss in item.losses.values()]).sum()
        if group.parameters and total.requires_grad:
            (total * weight).backward(inputs=group.parameters)
        detach = lambda values: {k: torch.as_tensor(v).detach() for k, v in values.items()}
        return _Part(item.group, batch.ids, weight, total.detach(), detach(item.losses), detach(item.logs))

    def _norm(self, group: Group) -> Tensor:
        gradients = group.gradients()
        if not gradients:
            return torch.zeros((), device=self.device)
        return nn.utils.get_total_norm(gradients, foreach=True)

    def _require_finite(self, parts: list[_Part], norms: dict[str, Tensor], batch: Batch) -> None:
        """Stop before the update when anything is NaN or infinite: one look from the host a step."""
        numbers = [part.total for part in parts] + list(norms.values())
        if bool(torch.stack(numbers).isfinite().all()):
            return
        for part in parts:
            for term, value in part.losses.items():
                if not bool(value.isfinite()):
                    self._fail(f"loss '{part.group}.{term}' is {float(value)}", part.ids)
        for name in norms:
            group = self.groups[name]
            bad = [
                n
                for n, p in zip(group.names, group.parameters)
                if p.grad is not None and not bool(p.grad.isfinite().all())
            ]
            if bad:
                more = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
                self._fail(f"the gradient of '{bad[0]}'{more} (group '{name}') is not finite", batch.ids)
        self._fail(f"the sum of the losses or the gradient norm overflows ({', '.join(norms)})", batch.ids)

    def _fail(self, what: str, ids: list[str]) -> None:
        self._drop_gradients()
        kept = f"the checkpoint of step {self.saved} is kept" if self.saved >= 0 else "no checkpoint was due yet"
        whose = f"; batch {', '.join(ids)}" if ids else ""
        message = f"{self.stage}, step {self.done + 1}: {what}{whose}; {kept}"
        self._event("failed", message=message)
        raise RunError(message)

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    # Values and events

    def _event(self, kind: str, values: dict[str, float] | None = None, **more: Any) -> None:
        if self.events is not None:
            self.events.write(kind, self.stage, self.done, values, **more)

    def _gather(self, parts: list[_Part], norms: dict[str, Tensor]) -> None:
        """Add to the averages, on the device. The first group's names stay bare, the others' are prefixed."""
        first = next(iter(self.groups))
        for part in parts:
            prefix = "" if part.group == first else f"{part.group}/"
            values = {"loss": part.total, **part.losses, **part.logs}
            self.averages.add({prefix + name: value for name, value in values.items()}, part.weight)
        for group, norm in norms.items():
            self.averages.add({("" if group == first else f"{group}/") + "grad_norm": norm})

    def _log(self) -> None:
        """Write the averages since the last time: the only look from the host beside the finite check."""
        self._shown = self.averages.take()
        self._shown["lr"] = next(iter(self.groups.values())).lr * lr_factor(self.done - 1, self.options)
        epoch = order.epoch_of(self.done - 1, self.options.batch, len(self.source))
        self._event("train", self._shown, epoch=epoch)

    def _show(self) -> None:
        now, (then, before) = time.monotonic(), self._tick
        if self.progress is None or (now - then < PROGRESS_SECONDS and self.done < self.options.steps):
            return
        self._tick = (now, self.done)
        speed = (self.done - before) / max(now - then, 1e-9)
        self.progress.update(self.stage, self.done, self.options.steps, self._shown, speed)

    # Validation

    @torch.no_grad()
    def _validate(self) -> None:
        """Average `validation_step` over the validation batches, with the averaged weights."""
        self.doing = "in validation"
        self.values, self.validated = {}, self.done
        if self.validation is None:
            return
        sums: dict[str, Tensor] = {}
        count = 0
        self.module.eval()
        with self.ema.applied():
            try:
                for i, batch in enumerate(self.validation()):
                    if self.stop.requested:
                        raise _Interrupted
                    step = self._step("validation", i)
                    with autocast(self.options.precision, self.device):
                        values = self.module.validation_step(batch.to(self.device), step)
                    for name, value in values.items():
                        sums[name] = sums.get(name, 0.0) + torch.as_tensor(value).detach().double().cpu() * len(batch)
                    count += len(batch)
                scores = self._scores()
            except (_Interrupted, Stopped):
                self.validated = -1
            else:
                self.values = {name: float(total) / count for name, total in sums.items()} | scores
                self._select()
        self.module.train()
        self._check_stop()
        self._event("validation", self.values, best=self.best)
        self._tick = (time.monotonic(), self.done)

    def _scores(self) -> dict[str, float]:
        if self.scores is None:
            return {}
        self.doing = "scoring samples"
        self._step("validation", "scores")  # seeds what a sampler might draw from the global generators
        return self.scores()

    def _select(self) -> None:
        """Keep the weights (averaged, as applied now) when the selected value is the best so far."""
        options = self.options
        if not options.select:
            return
        if options.select not in self.values:
            raise RecipeError(
                f"fit.select = '{options.select}': validation gives {', '.join(self.values) or 'nothing'}"
            )
        value = self.values[options.select]
        sign = 1.0 if options.select_mode == "min" else -1.0
        if value != value or (self.best is not None and sign * value >= sign * self.best["value"]):
            return
        name = f"best-{self.done:08d}"
        state = {"step": self.done, "value": value, "extra_state": self.module.extra_state()}
        ckpt.save_checkpoint(self.checkpoints / name, {"weights": self.module.state_dict()}, state)
        self.best = {"value": value, "step": self.done, "name": name}

    # Checkpoints

    def _save(self, weights: dict[str, Tensor] | None = None) -> None:
        """Write a checkpoint of now, unless there is one; weights: the state dict, if not the present one."""
        if self.saved == self.done:
            return
        self.doing = "saving a checkpoint"
        weights = self.module.state_dict() if weights is None else weights
        bad = [k for k, v in weights.items() if v.is_floating_point() and bool(v.isnan().any())]
        if bad:
            self._fail(f"'{bad[0]}' became NaN", [])
        tensors = {"weights": weights, "ema": self.ema.state()}
        tensors |= {f"optimizer-{name}": group.state() for name, group in self.groups.items()}
        state = {
            "stage": self.stage,
            "seed": self.seed,
            "step": self.done,
            "epoch": order.epoch_of(self.done, self.options.batch, len(self.source)),
            "micro_batches": self.micro_batches,
            "hooked": self.hooked,
            "validated": self.validated,
            "values": self.values,
            "best": self.best,
            "seconds": time.monotonic() - self._began,
            "extra_state": self.module.extra_state(),
            "options": asdict(self.options),
            "torch": torch.__version__,
            "header": self.header,
        }
        path = ckpt.save_checkpoint(self.checkpoints / ckpt.checkpoint_name(self.done), tensors, state)
        self.saved = self.done
        ckpt.prune(self.checkpoints, path)
        self._event("checkpoint", path=path.name)

    def _resume(self) -> int | None:
        """Go on from the newest checkpoint that verifies; returns its step, None when there is none."""
        found, problems = ckpt.newest_checkpoint(self.checkpoints)
        if found is not None:
            self._load(found)
            if self.done > self.options.steps:
                raise RunError(
                    f"{found.folder}: was made after {self.done} steps, but fit.steps = {self.options.steps}"
                )
        if self.events is not None:
            again = {"epoch": self.hooked, "validation": self.validated}  # done after the checkpoint
            self.events.drop_after(
                self.stage, self.done, at=[kind for kind, step in again.items() if step != self.done]
            )
        for problem in problems:
            problem += f"; going on from step {self.done}"
            self.notes.append(problem)
            self._event("fallback", message=problem)
        if found is None:
            return None
        self._event("resume", path=found.folder.name)
        return self.done

    def _load(self, found: ckpt.Checkpoint) -> None:
        state = found.state
        ckpt.load_strict(self.module, found.tensors("weights"), found.folder / ckpt.WEIGHTS)
        self.module.load_extra_state(state["extra_state"])
        self.ema.load(found.tensors("ema"))
        for name, group in self.groups.items():
            group.load(found.tensors(f"optimizer-{name}"))
        self.done = self.saved = state["step"]
        self.micro_batches = min(max(state["micro_batches"], self.options.accumulate), self.options.batch)
        self.hooked, self.validated, self.values = state["hooked"], state["validated"], state["values"]
        self.seconds, self.best = state["seconds"], state["best"]
        if self.best is not None:
            try:
                ckpt.open_checkpoint(self.checkpoints / self.best["name"])
            except RunError as error:
                self.notes.append(f"the best weights so far are lost: {error}")
                self.best = None

    def _finish(self) -> Path:
        """Write the product: the selected best, else the averaged weights; leave the module holding it."""
        info = {"stage": self.stage, "step": self.done, "ema": self.ema.active, "values": plain(self.values)}
        if self.best is not None:
            best = ckpt.open_checkpoint(self.checkpoints / self.best["name"])
            ckpt.load_strict(self.module, best.tensors("weights"), best.folder / ckpt.WEIGHTS)
            self.module.load_extra_state(best.state["extra_state"])
            info |= {"step": self.best["step"], "selected": {self.options.select: self.best["value"]}}
            path = ckpt.write_weights(self.module, self.folder, info, self.header)
        else:
            with self.ema.applied():
                path = ckpt.write_weights(self.module, self.folder, info, self.header)
        ckpt.load_weights(self.module, self.folder)
        self._drop_gradients()
        self.module.eval()
        self._event("fitted", self.values, path=path.name)
        return path


def _generator(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """Any iterable as a generator, which can be closed."""
    yield from batches
