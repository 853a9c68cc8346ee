"""What the engine can fit: groups of modules, losses a step, state beyond weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from attrs import Factory, frozen
from torch import Tensor, nn

from gen_core.batch import Batch


@frozen(eq=False)
class Step:
    """Where training stands. `generator` is seeded from (seed, stage, step), alike in all processes: draw all from it.

    index: optimizer steps done so far (0 for the first). total: steps of the whole fit. micro: which
    micro-batch of this step, 0-based. device: where the batch lies.
    """

    index: int
    epoch: int
    total: int
    generator: torch.Generator
    device: torch.device
    micro: int = 0


@frozen(eq=False)
class GroupLoss:
    """What one group minimizes in this step: the sum of `losses` (weights already applied); `logs` are shown only."""

    group: str
    losses: dict[str, Tensor]
    logs: dict[str, Tensor] = Factory(dict)


class Trainable(nn.Module):
    """A module the engine fits. Override what differs; the defaults serve a one-group model.

    A step may be tried again in smaller micro-batches, or given up: the engine then puts all buffers back as they
    were before it. So `training_step` changes no state but buffers; what it gathers for `updated` in other
    attributes starts anew at `step.micro == 0`. Only `updated` and `epoch_started` change other state.

    parallel: whether several processes may share its batches: what a step draws for each sample comes from
    `gen_core.share.rows`, losses are means over samples or use `mean`, `total` or `whole`, and so does what changes
    buffers. Of several processes only the first fits a component that does not say so.
    """

    parallel = False

    def groups(self) -> dict[str, list[nn.Module]]:
        """Group name -> modules; one optimizer each, in this order. Modules in no group are never optimized."""
        return {"main": [self]}

    def ema_groups(self) -> tuple[str, ...]:
        """Groups whose parameters get an exponential moving average when `fit.ema` > 0; default: the first."""
        return (next(iter(self.groups())),)

    def shardable(self) -> list[nn.Module]:
        """Modules whose weights `fit.shard` may cut over processes: blocks, then what holds them; none: it may not.

        Each is entered by calling it, its weights are used inside that call only, and nobody changes in place what it
        returns. What lies outside of them is whole in every process.
        """
        return []

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        """Yield one GroupLoss for each group that is trained now.

        The engine back-propagates each as it is yielded, into the parameters of that group only, so one
        forward may serve a generator and then (detached) a discriminator. A group not yielded is not stepped.
        """
        raise NotImplementedError(f"{type(self).__name__}.training_step")

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Scalars to average over validation batches; must not change any state."""
        return {}

    @torch.no_grad()
    def epoch_started(self, epoch: int, step: Step) -> dict[str, float]:
        """Called before the first step of each epoch; returns values to log."""
        return {}

    @torch.no_grad()
    def updated(self, group: str, step: Step) -> None:
        """Called after the optimizer step of `group`: the place for state that follows updates (EMA codebook)."""

    def extra_state(self) -> dict[str, Any]:
        """JSON state that is neither parameter nor buffer."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse of `extra_state`."""

    def notes(self) -> list[str]:
        """What a user should be told of these settings, such as a loss that is off; one sentence each."""
        return []

    def checkpoint_activations(self, on: bool) -> None:
        """Switch activation checkpointing (memory for time); ignored by models without it."""
