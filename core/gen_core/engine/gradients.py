"""The gradients of one step: micro-batches, a second try when memory runs out, the sum over processes, finiteness.

A micro-batch is cut into one part a process (`gen_core.share`), and each loss is weighed by its rows, so the sum of
gradients over processes and micro-batches is that of the whole batch. The sum is one flat all-reduce for each group.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from attrs import define
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.engine import order
from gen_core.engine.optimizers import Group
from gen_core.engine.precision import autocast
from gen_core.engine.ranks import CERTAIN, ERROR, GOING, MEMORY, STOP, SUSPECT, Left
from gen_core.engine.rescue import Rescue
from gen_core.engine.rollback import Rollback, out_of_memory
from gen_core.engine.soundness import unsound_samples, unsound_state
from gen_core.engine.standing import Interrupted, Standing
from gen_core.errors import RunError
from gen_core.share import Share, share_of, working_on
from gen_core.trainable import GroupLoss


@define(eq=False)
class Part:
    """What one micro-batch yielded for one group: kept to name the culprit and to log."""

    group: str
    ids: list[str]
    weight: float
    total: Tensor
    losses: dict[str, Tensor]
    logs: dict[str, Tensor]


class Gradients:
    """Leaves the gradients of a step in the parameters."""

    def __init__(self, now: Standing, groups: dict[str, Group], rescue: Rescue) -> None:
        self._now, self._groups, self._rescue = now, groups, rescue
        self.rollback = Rollback(now.module)
        self._local_norms: dict[str, Tensor] = {}

    def of(
        self, batch: Batch, save: Callable[[], None], again: Callable[[], Batch]
    ) -> tuple[list[Part], dict[str, Tensor]]:
        """Run all micro-batches: (what they yielded, gradient norm of each group that was).

        When memory runs out, all again in twice as many. save: writes a checkpoint from a second thread, with the
        buffers of `rollback`. again: our part of the same batch, cut for the micro-batches of now.
        Raises: Interrupted, Left, RunError; then all is as before the step.
        """
        now = self._now
        now.doing = "in the training step"
        self.rollback.remember()
        while True:
            try:
                # a long step keeps the loop from seeing a stop; only buffers and gradients change in it
                with self._rescue.held_up(save):
                    parts = self._micro_batches(batch)
                    yielded = list(dict.fromkeys(part.group for part in parts))
                    return parts, {name: self._norm(self._groups[name]) for name in yielded}
            except Interrupted:
                self._give_up()
                raise
            except Left as left:
                self._give_up()
                if left.kind != MEMORY:
                    raise
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if now.shards:
                    raise RunError(
                        f"{now.stage}: out of memory in step {now.done + 1}; with fit.shard it is not tried again in "
                        f"smaller pieces: raise fit.accumulate = {now.micro_batches}, or start more processes"
                    ) from error
                if not self._can_be_smaller:
                    raise RunError(
                        f"{now.stage}: out of memory in step {now.done + 1} with one sample at a time "
                        f"({', '.join(batch.ids[:1])}); use a smaller volume or network, bf16, or "
                        "fit.checkpoint_activations = true"
                    ) from error
                self._tell_shortage()
            # outside the except block, so that the traceback no longer holds the failed attempt's tensors
            self._give_up()
            if not self._can_be_smaller:
                raise RunError(f"{now.stage}: another process is out of memory with one sample at a time")
            now.micro_batches = min(2 * now.micro_batches, now.options.batch)
            gc.collect()
            if now.device.type == "cuda":
                torch.cuda.empty_cache()
            note = f"out of memory in step {now.done + 1}: going on with {now.micro_batches} micro-batches"
            now.notes.append(note)
            now.event("out-of-memory", micro_batches=now.micro_batches, message=note)
            if now.ranks.world > 1:
                batch = again()

    @property
    def _can_be_smaller(self) -> bool:
        """Whether any process works on more than one sample at a time."""
        now = self._now
        micro = -(-now.options.batch // now.micro_batches)
        return -(-micro // now.ranks.world) > 1

    def _tell_shortage(self) -> None:
        """Let the other processes leave the step too."""
        if self._now.ranks.world == 1:
            return
        try:
            self._now.ranks.exchange(MEMORY)
        except Left as left:
            if left.kind != MEMORY:
                raise

    def _give_up(self) -> None:
        self._now.drop_gradients()
        self.rollback.restore()

    def _micro_batches(self, batch: Batch) -> list[Part]:
        now = self._now
        now.drop_gradients()
        parts: list[Part] = []
        for micro, (share, piece, weight) in enumerate(self._pieces(batch)):
            if now.shards:
                now.agree()
            piece = piece.to(now.device)
            step = now.step(now.done, micro, 0, micro=micro)
            with now.together(), working_on(share) if share is not None else nullcontext():
                losses = iter(now.module.training_step(piece, step))
                while True:
                    if now.stop.requested and not now.shards:
                        self._interrupt()
                    with autocast(now.options.precision, now.device):
                        item = next(losses, None)
                    if item is None:
                        break
                    parts.append(self._backward(item, piece, weight))
        if now.ranks.world > 1:
            self._sum(parts)
        return parts

    def _interrupt(self) -> None:
        """Leave the step for a stop, all processes together."""
        if self._now.ranks.world > 1:
            self._now.ranks.exchange(STOP, {"reason": self._now.stop.requested})
        raise Interrupted

    def _pieces(self, batch: Batch) -> Iterator[tuple[Share | None, Batch, float]]:
        """Each micro-batch: what of it is ours, those samples, and the weight of a mean over them."""
        now, k = self._now, self._now.micro_batches
        if now.ranks.world == 1:
            for micro in range(k):
                first, last = order.batch_slice(len(batch), micro, k)
                # weight: 1 / micro_batches when they are equal
                yield None, batch if k == 1 else batch.part(first, last), (last - first) / len(batch)
            return
        at = 0
        for micro in range(k):
            first, last = order.batch_slice(now.options.batch, micro, k)
            share = share_of(last - first, now.ranks.rank, now.ranks.world, now.ranks.add)
            n = share.last - share.first
            yield share, batch.part(at, at + n), share.weight * (last - first) / now.options.batch
            at += n

    def _backward(self, item: GroupLoss, batch: Batch, weight: float) -> Part:
        group = self._groups.get(item.group)
        assert group is not None, f"{type(self._now.module).__name__} yields unknown group '{item.group}'"
        total = torch.stack([loss.float() for loss in item.losses.values()]).sum()
        if group.parameters and total.requires_grad:
            # a network that is cut computes with gathered weights, which are none of the parameters
            (total * weight).backward(inputs=None if self._now.shards else group.parameters)
        detach = lambda values: {k: torch.as_tensor(v).detach() for k, v in values.items()}
        return Part(item.group, batch.ids, weight, total.detach(), detach(item.losses), detach(item.logs))

    @torch.no_grad()
    def _sum(self, parts: list[Part]) -> None:
        """Sum the gradients of each group over all processes; of weights that are cut they are summed already."""
        self._local_norms = {}
        shards = self._now.shards
        shards.take_gradients()
        for name in dict.fromkeys(part.group for part in parts):
            group = self._groups[name]
            self._local_norms[name] = _norm(group.gradients(), self._now.device)
            if gradients := group.gradients(without=shards.pieces):
                self._now.ranks.add_all(gradients)

    @torch.no_grad()
    def _norm(self, group: Group) -> Tensor:
        """Of the gradients' sum over all processes."""
        now, pieces = self._now, self._now.shards.pieces
        if not pieces:
            return _norm(group.gradients(), now.device)
        squares = _norm(group.gradients(only=pieces), now.device).square()
        now.ranks.add(squares)
        return (squares + _norm(group.gradients(without=pieces), now.device).square()).sqrt()

    def require_finite(self, parts: list[Part], norms: dict[str, Tensor], batch: Batch) -> None:
        """Stop before the update when anything is NaN or infinite: one look from the host a step.

        Raises: RunError naming the loss or the parameter, and the samples of the process where it happened.
        """
        now = self._now
        local = [part.total for part in parts] + list(self._local_norms.values())
        finite = torch.stack([*local, *norms.values()]).isfinite().tolist()
        if all(finite):
            if now.ranks.world > 1:
                now.ranks.exchange(GOING)
            return
        # the sums are wrong everywhere; who knows most of the cause tells it
        grave = SUSPECT if all(finite[: len(local)]) else CERTAIN if unsound_samples(batch) else ERROR
        for part in parts:
            for term, value in part.losses.items():
                if not bool(value.isfinite()):
                    now.fail(f"loss '{part.group}.{term}' is {float(value)}{self._cause(batch)}", part.ids, grave)
        for name in norms:
            group = self._groups[name]
            bad = [
                n
                for n, p in zip(group.names, group.parameters)
                if p.grad is not None and not bool(p.grad.isfinite().all())
            ]
            if bad:
                more = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
                now.fail(
                    f"the gradient of '{bad[0]}'{more} (group '{name}') is not finite{self._cause(batch)}",
                    batch.ids,
                    grave,
                )
        now.fail(f"the sum of the losses or the gradient norm overflows ({', '.join(norms)})", batch.ids, grave)

    def _cause(self, batch: Batch) -> str:
        """Where it came from, when that can be seen: the samples, or the module as it was before the step."""
        samples = unsound_samples(batch)
        if samples:
            return f": {', '.join(samples[:4])} of the batch hold{'s' * (len(samples) == 1)} NaN or infinite values"
        now = self._now
        state = unsound_state(now.module, self.rollback.state_dict() | now.shards.pieces)
        return f": {state} before" if state else ""


def _norm(gradients: list[Tensor], device: torch.device) -> Tensor:
    return nn.utils.get_total_norm(gradients, foreach=True) if gradients else torch.zeros((), device=device)
