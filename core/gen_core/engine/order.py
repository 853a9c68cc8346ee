"""The order of data: a stream of permutations that is a pure function of (seed, epoch).

The samples of a fit form one endless stream: a permutation of all n volumes, then another, and so on.
Step s takes positions s * batch ... (s + 1) * batch - 1, so a batch may straddle two epochs or hold more than n
samples, none is dropped, and any step can be found without walking there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from gen_core.engine.seeds import generator
from gen_core.share import share_of


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> tuple[int, ...]:
    """The order of n volumes in an epoch."""
    return tuple(torch.randperm(n, generator=generator(seed, "order", epoch)).tolist())


def epoch_of(step: int, batch: int, n: int) -> int:
    """The epoch of a step: that of its first sample."""
    return step * batch // n


def starts_epoch(step: int, batch: int, n: int) -> bool:
    """Whether `step` is the first one of its epoch."""
    return step == 0 or epoch_of(step, batch, n) != epoch_of(step - 1, batch, n)


def step_samples(
    seed: int, step: int, batch: int, n: int, positions: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """The (index, epoch) pairs of a step; positions: only these of the batch."""
    pairs = []
    for position in range(batch) if positions is None else positions:
        epoch, offset = divmod(step * batch + position, n)
        pairs.append((permutation(seed, epoch, n)[offset], epoch))
    return pairs


def plan(
    seed: int, start: int, stop: int, batch: int, n: int, positions: Sequence[int] | None = None
) -> Iterator[list[tuple[int, int]]]:
    """`step_samples` of steps start ... stop - 1: what a source streams."""
    for step in range(start, stop):
        yield step_samples(seed, step, batch, n, positions)


def positions_of(batch: int, micro_batches: int, rank: int, world: int) -> list[int]:
    """Which samples of a batch `rank` of `world` works on, micro-batch by micro-batch; stand-ins too."""
    found: list[int] = []
    for micro in range(micro_batches):
        first, last = batch_slice(batch, micro, micro_batches)
        part = share_of(last - first, rank, world, lambda x: None)
        found += range(first + part.first, first + part.last)
    return found


def batch_slice(batch: int, part: int, parts: int) -> tuple[int, int]:
    """(first, last) of part `part` when `batch` samples are cut into `parts` nearly equal parts."""
    return batch * part // parts, batch * (part + 1) // parts
