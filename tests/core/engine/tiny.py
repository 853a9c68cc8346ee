"""A tiny trainable with two groups and every kind of state; as a script, a fit that can be killed.

python tiny.py FOLDER [STEPS [DELAY]]
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from gen_core.batch import Batch
from gen_core.engine.events import EventLog
from gen_core.engine.fit import fit
from gen_core.engine.source import TensorSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import Stopped
from gen_core.options import FitOptions
from gen_core.trainable import GroupLoss, Step, Trainable

SHAPE = (7, 2, 3, 4, 5)  # N c d h w


class Tiny(Trainable):
    """An autoencoder and a critic; `counts` follows updates, `seen` the forward passes, `epochs` is JSON state."""

    def __init__(self, noise: float = 0.1, limit: int = 0, delay: float = 0.0, seed: int = 3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder, self.decoder = nn.Linear(5, 3), nn.Linear(3, 5)
            self.critic = nn.Linear(5, 1)
            self.norm = nn.BatchNorm1d(3)
        self.register_buffer("counts", torch.zeros(2))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("queue", torch.zeros(6))
        self.epochs: list[int] = []
        self.noise, self.limit, self.delay = noise, limit, delay
        self.sizes: list[int] = []

    def groups(self):
        return {"main": [self.encoder, self.decoder, self.norm], "critic": [self.critic]}

    def forward(self, x):
        z = self.encoder(x)
        if self.noise:  # batch statistics would differ between micro-batches
            z = self.norm(z.flatten(0, -2)).reshape(z.shape)
        return self.decoder(torch.tanh(z))

    def training_step(self, batch: Batch, step: Step):
        if self.delay:
            time.sleep(self.delay)
        self.sizes.append(len(batch))
        self.seen += len(batch)
        if self.limit and len(batch) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        x = batch.x
        if self.noise:
            x = x + self.noise * torch.randn(x.shape, generator=step.generator) + 0.01 * torch.rand(1)
        x_hat = self(x)
        with torch.no_grad():
            self.queue.copy_(torch.roll(self.queue, 1))
            self.queue[0] = x_hat.mean()
        yield GroupLoss(
            "main",
            {"l2": (x_hat - batch.x).square().mean(), "fool": -0.1 * self.critic(x_hat).mean()},
            {"mean": x_hat.mean()},
        )
        fake = self.critic(x_hat.detach()).mean()
        yield GroupLoss("critic", {"hinge": fake + self.critic(x).square().mean()})

    def validation_step(self, batch: Batch, step: Step):
        return {"l2": (self(batch.x) - batch.x).square().mean()}

    def epoch_started(self, epoch: int, step: Step):
        self.epochs.append(epoch)
        self.seen += torch.randint(100, (), generator=step.generator)
        return {"epoch_seen": float(self.seen)}

    def updated(self, group: str, step: Step):
        self.counts[0 if group == "main" else 1] += 1

    def extra_state(self):
        return {"epochs": list(self.epochs)}

    def load_extra_state(self, state):
        self.epochs = list(state["epochs"])


def data(n: int = SHAPE[0]) -> torch.Tensor:
    return torch.randn((n, *SHAPE[1:]), generator=torch.Generator().manual_seed(1))


def run(folder: Path, module: Tiny | None = None, *, source=None, stop=None, progress=None, **options):
    """Fit a Tiny in `folder` and give (module, summary)."""
    module = Tiny() if module is None else module
    z = data()
    settings = dict(steps=23, batch=4, lr=1e-2, warmup=3, schedule="cosine", clip=1.0, ema=0.9,
                    checkpoint_every=5, validate_every=4, log_every=2)  # fmt: skip
    held = TensorSource(z + 0.1)
    summary = fit(
        module,
        TensorSource(z, ids=[f"eye-{i}" for i in range(len(z))]) if source is None else source,
        FitOptions(**{**settings, **options}),
        folder=folder / "steps",
        stage="fit.codec",
        seed=11,
        events=EventLog(folder / "events.jsonl"),
        validation=lambda: held.batches(3),
        stop=stop,
        progress=progress,
        header={"recipe": "tiny", "versions": {"codec": 1}},
    )
    return module, summary


def torment(folder: Path, times: int) -> int:
    """Start the fit `times` times and kill it at random moments; returns how often it was still running."""
    rng, kills = random.Random(5), 0
    for _ in range(times):
        child = os.fork()
        if not child:
            run(folder, Tiny(delay=0.004), select="l2")
            os._exit(0)
        time.sleep(rng.uniform(0.02, 0.2))
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return kills


def serve(folder: Path, delay: float) -> int:
    """The fit as a command runs it."""
    with StopFlag() as flag:
        print("ready", flush=True)
        try:
            run(folder, Tiny(delay=delay), stop=flag, select="l2")
        except Stopped as stopped:
            print(stopped)
            return stopped.exit_code
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "torment":
        print(torment(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        sys.exit(serve(Path(sys.argv[2]), float(sys.argv[3])))
