"""The order of data: a stream of permutations that is a pure function of (seed, epoch).

The samples of a fit form one endless stream: a permutation of all n volumes, then another, and so on.
Step s takes positions s * batch ... (s + 1) * batch - 1, so a batch may straddle two epochs or hold more than n
samples, none is dropped, and any step can be found without walking there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch

from gen_core.engine.seeds import generator


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


def step_samples(seed: int, step: int, batch: int, n: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
    """The (index, epoch) pairs that `rank` of `world` reads in a step: its share of the `batch` positions."""
    first, last = batch_slice(batch, rank, world)
    pairs = []
    for position in range(step * batch + first, step * batch + last):
        epoch, offset = divmod(position, n)
        pairs.append((permutation(seed, epoch, n)[offset], epoch))
    return pairs


def plan(
    seed: int, start: int, stop: int, batch: int, n: int, rank: int = 0, world: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """`step_samples` of steps start ... stop - 1: what a source streams."""
    for step in range(start, stop):
        yield step_samples(seed, step, batch, n, rank, world)


def batch_slice(batch: int, part: int, parts: int) -> tuple[int, int]:
    """(first, last) of part `part` when `batch` samples are cut into `parts` nearly equal parts."""
    return batch * part // parts, batch * (part + 1) // parts
