"""A network as a graph of operations that can be asked for any region of their output.

Nodes stand in the order in which they are computed; each is known by its number. Local operations say what they need
(`windows`), point operations need the same region of each input, norms need statistics of a whole input first, and
"whole" operations (attention) need all of it at once.
Shape legend: tensors of nodes (1, channels, d, h, w).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from attrs import field, frozen
from torch import Tensor

from gen_core.tiling.windows import Region, Slide, Window, clipped, whole

Size = tuple[int, int, int]
Edge = Literal["zeros", "replicate", "none"]
"""What an operation finds beyond the true border; "none": it is handed only what there is."""

POINT = (Slide(), Slide(), Slide())


@frozen(eq=False)
class Node:
    """One operation. kind: "input", "local", "point", "norm" or "whole"."""

    kind: str
    inputs: tuple[int, ...]
    channels: int
    size: Size
    make: Callable[..., Tensor] = field(default=lambda x: x)  # tensors of the inputs -> output
    windows: tuple[Window, Window, Window] = POINT
    edge: Edge = "none"
    groups: int = 1  # of a norm
    eps: float = 0.0
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Of the whole output in float32."""
        d, h, w = self.size
        return 4 * self.channels * d * h * w

    def needs(self, region: Region, size: Size) -> Region:
        """The region of an input of `size` that a region of the output is made of, inside the volume."""
        if self.kind == "whole":
            return whole(size)
        reach = [w.needs(*stretch) for w, stretch in zip(self.windows, region)]
        return tuple(clipped(stretch, n) for stretch, n in zip(reach, size))  # type: ignore[return-value]

    def local_output(self, x: Tensor, at: Region, region: Region) -> Tensor:
        """The output of a local operation in `region` from x, which holds the region `at` of its input."""
        needed = [w.needs(*stretch) for w, stretch in zip(self.windows, region)]
        begin = [start for start, _ in at]
        if self.edge != "none":
            lack = [(a - start, stop - b) for (start, stop), (a, b) in zip(needed, at)]
            if any(any(pair) for pair in lack):
                (d0, d1), (h0, h1), (w0, w1) = lack
                mode = "constant" if self.edge == "zeros" else "replicate"
                x = F.pad(x, (w0, w1, h0, h1, d0, d1), mode=mode)
            begin = [start for start, _ in needed]
        y = self.make(x)
        for axis, (window, start, (a, b)) in enumerate(zip(self.windows, begin, region), 2):
            skip = a - window.first(start)
            if skip or y.shape[axis] != b - a:
                y = y.narrow(axis, skip, b - a)
        return y


class Graph:
    """Operations in order; the methods add one and return its number."""

    def __init__(self, channels: int, size: Size):
        self.nodes: list[Node] = [Node("input", (), channels, size)]

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def local(
        self,
        x: int,
        make: Callable[[Tensor], Tensor],
        windows: tuple[Window, Window, Window],
        channels: int,
        size: Size,
        edge: Edge = "none",
    ) -> int:
        """An operation on a neighbourhood; `make` maps the needed region to the output without padding it."""
        return self._add(Node("local", (x,), channels, size, make, windows, edge))

    def point(self, make: Callable[..., Tensor], *inputs: int) -> int:
        """An operation voxel by voxel: make(*tensors, inplace), where inplace allows it to overwrite the first."""
        of = self.nodes[inputs[0]]
        return self._add(Node("point", inputs, of.channels, of.size, make))

    def norm(self, x: int, groups: int, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> int:
        """(x - mean) / sqrt(variance + eps) * weight + bias with the statistics of each group of channels."""
        of = self.nodes[x]
        return self._add(Node("norm", (x,), of.channels, of.size, groups=groups, eps=eps, weight=weight, bias=bias))

    def whole(self, x: int, make: Callable[[Tensor], Tensor]) -> int:
        """An operation in which every voxel sees every other; size and channels stay."""
        of = self.nodes[x]
        return self._add(Node("whole", (x,), of.channels, of.size, make))

    def readers(self, x: int) -> list[int]:
        return [i for i, node in enumerate(self.nodes) if x in node.inputs]
