"""Where a fit stands: the counters that a checkpoint holds, and what every part of the fit needs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gen_core.engine import order, seeds
from gen_core.engine.averages import Averages
from gen_core.engine.events import EventLog
from gen_core.engine.ranks import ERROR, STOP, Ranks
from gen_core.engine.sharding import Shards
from gen_core.engine.stop import StopFlag
from gen_core.errors import RunError, Stopped
from gen_core.options import FitOptions
from gen_core.trainable import Step, Trainable


class Interrupted(Exception):
    """A stop was asked for in the middle of a step, which is given up."""


class Standing:
    """The state of one running fit, in one process."""

    def __init__(
        self,
        module: Trainable,
        n: int,
        options: FitOptions,
        folder: Path,
        stage: str,
        seed: int,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.module, self.n, self.options = module, n, options
        self.folder, self.stage, self.seed, self.device, self.ranks = folder, stage, seed, device, ranks
        self.checkpoints = folder / "checkpoints"
        self.events: EventLog | None = None
        self.stop = StopFlag()
        self.header: dict[str, Any] = {}
        self.done = 0  # optimizer steps
        self.micro_batches = options.accumulate  # grows when memory runs out
        self.hooked = -1  # the step before which epoch_started was last called
        self.validated = -1  # the number of steps after which validation last ran
        self.saved = -1  # the number of steps of the newest checkpoint
        self.values: dict[str, float] = {}  # of the last validation
        self.best: dict[str, Any] | None = None  # {"value", "step", "name"}
        self.seconds = 0.0
        self.doing = "starting"  # in words, for the message when memory runs out
        self.notes: list[str] = []
        self.averages = Averages(device)  # of what is logged
        self.shards = Shards()
        self.parameters = list(module.parameters())

    @property
    def epoch(self) -> int:
        """The epoch of the next step."""
        return order.epoch_of(self.done, self.options.batch, self.n)

    def step(self, *key: seeds.Key, micro: int = 0) -> Step:
        """The Step of now, with generators seeded from (seed, stage, *key): the same in every process."""
        seeds.seed_global(self.seed, self.stage, *key, "global")
        return Step(
            index=self.done,
            epoch=self.epoch,
            total=self.options.steps,
            generator=seeds.generator(self.seed, self.stage, *key, device=self.device),
            device=self.device,
            micro=micro,
        )

    def cut(self) -> None:
        """Cut the module's weights over the processes. Raises: RecipeError."""
        self.shards = Shards.of(self.module, self.options, self.ranks, self.device)
        self.parameters = [*self.module.parameters(), *self.shards.pieces.values()]

    def agree(self) -> None:
        """Before what all processes must go through together: leave here for a stop of any. Raises: Left."""
        if self.stop.requested:
            self.ranks.exchange(STOP, {"reason": self.stop.requested})
        self.ranks.exchange()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what gathers weights that are cut: no process can leave it alone."""
        if not self.shards:
            yield
            return
        with self.ranks.together(), warnings.catch_warnings():
            # a network may return a view; nobody changes it in place (gen_core.trainable: shardable)
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
            yield

    def event(self, kind: str, values: dict[str, float] | None = None, **more: Any) -> None:
        if self.events is not None:
            self.events.write(kind, self.stage, self.done, values, **more)

    def stopped(self, reason: str) -> Stopped:
        """What ends a fit that was asked to stop and has saved."""
        return Stopped(
            f"{self.stage}: stopped by {reason} after step {self.done} of {self.options.steps}; "
            "the same command goes on from there"
        )

    def failure(self, what: str, ids: list[str]) -> str:
        """The message that something is not finite."""
        kept = f"the checkpoint of step {self.saved} is kept" if self.saved >= 0 else "no checkpoint was due yet"
        whose = f"; batch {', '.join(ids)}" if ids else ""
        return f"{self.stage}, step {self.done + 1}: {what}{whose}; {kept}"

    def fail(self, what: str, ids: list[str], kind: int = ERROR) -> None:
        """End the fit, on all processes. Raises: RunError."""
        self.drop_gradients()
        message = self.failure(what, ids)
        if self.ranks.world > 1:
            self.ranks.exchange(kind, {"code": RunError.exit_code, "message": message, "event": "failed"})
        self.event("failed", message=message)
        raise RunError(message)

    def drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
