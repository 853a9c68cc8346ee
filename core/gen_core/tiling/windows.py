"""Which stretch of its input an operation needs for a stretch of its output, axis by axis.

Stretches are half open, [start, stop), and may reach beyond the volume: what lies there is the operation's padding.
Source: Dumoulin & Visin 2016, relationships 6 (convolution) and 14 (transposed convolution).
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

Stretch = tuple[int, int]
Region = tuple[Stretch, Stretch, Stretch]
"""A stretch of each axis, D, H, W."""


class Window(Protocol):
    """One axis of an operation."""

    def needs(self, start: int, stop: int) -> Stretch:
        """The input that the outputs [start, stop) are made of."""
        ...

    def first(self, start: int) -> int:
        """Where the first output lies that the operation makes of an input beginning at `start`."""
        ...


@frozen
class Slide:
    """A convolution: output o sees the inputs o * stride - before ... + kernel."""

    kernel: int = 1
    stride: int = 1
    before: int = 0

    def needs(self, start: int, stop: int) -> Stretch:
        return start * self.stride - self.before, (stop - 1) * self.stride - self.before + self.kernel

    def first(self, start: int) -> int:
        return (start + self.before) // self.stride


@frozen
class Spread:
    """A transposed convolution: input i adds to the outputs i * stride - before ... + kernel."""

    kernel: int
    stride: int
    before: int

    def needs(self, start: int, stop: int) -> Stretch:
        return -((self.kernel - 1 - self.before - start) // self.stride), (stop - 1 + self.before) // self.stride + 1

    def first(self, start: int) -> int:
        return start * self.stride - self.before


@frozen
class Repeat:
    """Each input becomes `stride` outputs; `reach` further inputs on both sides take part (1 for linear)."""

    stride: int
    reach: int = 0

    def needs(self, start: int, stop: int) -> Stretch:
        return start // self.stride - self.reach, (stop - 1) // self.stride + 1 + self.reach

    def first(self, start: int) -> int:
        return start * self.stride


@frozen
class Gather:
    """`stride` inputs become one output's channels."""

    stride: int

    def needs(self, start: int, stop: int) -> Stretch:
        return start * self.stride, stop * self.stride

    def first(self, start: int) -> int:
        return start // self.stride


def clipped(stretch: Stretch, n: int) -> Stretch:
    """The part inside [0, n); at least one voxel, the nearest, where all lies outside."""
    start = min(max(stretch[0], 0), n - 1)
    return start, max(min(stretch[1], n), start + 1)


def hull(a: Region, b: Region) -> Region:
    """The smallest region that holds both."""
    return tuple((min(p[0], q[0]), max(p[1], q[1])) for p, q in zip(a, b))  # type: ignore[return-value]


def whole(size: tuple[int, int, int]) -> Region:
    return tuple((0, n) for n in size)  # type: ignore[return-value]


def voxels(region: Region) -> int:
    d, h, w = (stop - start for start, stop in region)
    return d * h * w


def grid(size: tuple[int, int, int], tile: tuple[int, int, int]) -> list[Region]:
    """Tiles of at most `tile` voxels that cover `size`, in rising order; the last of an axis may be smaller."""
    steps = [[(a, min(a + t, n)) for a in range(0, n, t)] for n, t in zip(size, tile)]
    return [(d, h, w) for d in steps[0] for h in steps[1] for w in steps[2]]
