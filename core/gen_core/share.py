"""Which rows of a batch this process holds, and how several processes draw and average as one.

While a fit runs on several processes, each holds consecutive rows of every micro-batch. A training step that draws
its random numbers by `rows`, and turns what is no plain mean over samples into `mean`, `total` or `whole`, computes on
any number of processes what one process computes on the whole. In a single process all of these change nothing.

A process that has no row of a small micro-batch works on a stand-in, a row of another process, which counts for
nothing: so all processes take part in the same sums in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor


@frozen(eq=False)
class Share:
    """Rows first..last-1 of the `whole` of a micro-batch; counts: False for a stand-in.

    add: sums a contiguous tensor over all processes, in place.
    """

    first: int
    last: int
    whole: int
    counts: bool
    add: Callable[[Tensor], None]

    @property
    def weight(self) -> float:
        """What a mean over these rows adds to the mean over the whole."""
        return (self.last - self.first) / self.whole if self.counts else 0.0


def share_of(size: int, rank: int, world: int, add: Callable[[Tensor], None]) -> Share:
    """What `rank` of `world` holds of `size` rows: nearly equal parts, or a stand-in where there is none."""
    first, last = size * rank // world, size * (rank + 1) // world
    if first < last:
        return Share(first, last, size, True, add)
    first = min(first, size - 1)
    return Share(first, first + 1, size, False, add)


# of the process, not of a thread: autograd runs parts of a backward pass (recomputed activations) in other threads
_now: Share | None = None


def current() -> Share | None:
    """The share that this process works on; None where it works alone."""
    return _now


@contextmanager
def working_on(share: Share | None) -> Iterator[None]:
    """Inside, the functions below know `share`."""
    global _now
    before, _now = _now, share
    try:
        yield
    finally:
        _now = before


def rows(n: int, draw: Callable[[int], Tensor]) -> Tensor:
    """`draw(n)`, random numbers with a leading axis of the batch's n rows: those of the whole, of which n are ours.

    All processes draw the whole from equal generators, so that none draws what another has drawn.
    """
    if _now is None:
        return draw(n)
    each = _each(n)
    return draw(_now.whole * each)[_now.first * each : _now.last * each]


def total(x: Tensor) -> Tensor:
    """The sum of x over all processes; differentiable, any number of times."""
    if _now is None:
        return x
    if _now.counts:
        return _Sum.apply(x, _now.add)
    y = _Sum.apply(x * 0, _now.add)
    # still in the graph: its backward is a sum over all processes, to which a stand-in adds nothing
    return y * 0 + y.detach()


def part(x: Tensor) -> Tensor:
    """x, a mean over our rows, as our part of the mean over all rows: the parts of all processes add up to it.

    What is derived by hand is derived from a part: a layer that sums over all processes adds up their gradients.
    """
    return x if _now is None else x * _now.weight


def mean(x: Tensor) -> Tensor:
    """x, a mean over our rows, as the mean over all rows; differentiable."""
    return total(part(x))


def whole(x: Tensor) -> Tensor:
    """x (n, ...) of our rows, or several values a row in order -> that of all rows; differentiable."""
    if _now is None:
        return x
    each, shape = _each(len(x)), x.shape[1:]
    before, after = _now.first * each, (_now.whole - _now.last) * each
    return total(torch.cat((x.new_zeros(before, *shape), x, x.new_zeros(after, *shape))))


def ours(x: Tensor) -> Tensor:
    """Our rows of x, which belongs to all rows: the way back from `whole`."""
    if _now is None:
        return x
    each = len(x) // _now.whole
    return x[_now.first * each : _now.last * each]


@contextmanager
def head(n: int, few: Callable[[int], int]) -> Iterator[tuple[int, float]]:
    """Work on the first few(n) of n rows only: (how many of them are ours, what a mean over these is multiplied by).

    The factor makes up for the fit, which weighs a loss by all our rows.
    """
    if _now is None:
        yield few(n), 1.0
        return
    size, outer = few(_now.whole), _now
    first, last = outer.first, min(outer.last, size)
    if first < last:
        part = evolve(outer, last=last, whole=size)
    else:
        part = Share(size - 1, size, size, False, outer.add)
    with working_on(part):
        yield part.last - part.first, part.weight / outer.weight if outer.weight else 0.0


def _each(n: int) -> int:
    """How many values there are a row, when there are n in all."""
    assert _now is not None
    each, rest = divmod(n, _now.last - _now.first)
    assert not rest and each, f"{n} values do not belong to {_now.last - _now.first} rows"
    return each


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each process's loss is a part of one loss: so gradients are summed likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, add: Callable[[Tensor], None]) -> Tensor:
        ctx.add = add
        y = x.clone(memory_format=torch.contiguous_format)
        add(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient, ctx.add), None
