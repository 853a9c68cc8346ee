"""A graph worked through tile by tile: the whole result, with the memory of a tile.

Equal to the network on the whole volume but for rounding, because every tile is made of all the voxels it depends on
and norms know the moments of the whole activation before any tile is normalized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_core.tiling.graph import Graph, Size
from gen_core.tiling.moments import Moments
from gen_core.tiling.schedule import Pass, regions, schedule, tiles
from gen_core.tiling.store import Store
from gen_core.tiling.windows import Region, clipped

Affine = tuple[Tensor, Tensor]


@torch.no_grad()
def run_tiled(
    graph: Graph,
    x: Tensor,
    tile: Size,
    new_store: Callable[[tuple[int, int, int, int]], Store],
    *,
    wanted: Size | None = None,
    largest: float = float("inf"),
    told: Callable[[], Any] = lambda: None,
) -> Tensor:
    """The output (1, C, D, H, W) of `graph` for x (1, C, D, H, W).

    x: may be smaller than the graph's input: its last voxels are repeated, as far as a tile needs them.
    tile: voxels (D, H, W) of the finest activation that a pass touches; 0 = the whole axis.
    new_store: makes room for one activation of a shape. wanted: only the first so many voxels of each axis.
    largest: bytes above which an activation is computed again instead of kept. told: called after every tile.
    """
    walk, out = _Walk(graph, x), torch.empty(0)
    try:
        for work in schedule(graph, largest):
            last = work.target == len(graph.nodes) - 1
            moments = Moments() if work.norm else None
            if work.keep:
                node = graph.nodes[work.target]
                kept = walk.stores.pop(work.over) if work.over is not None else new_store((node.channels, *node.size))
                walk.stores[work.target] = kept
            for region in tiles(graph, work, tile, wanted if last else None):
                y = walk.tile(work, region, kept if work.over is not None else None)
                if moments is not None:
                    moments.add(y)
                if work.keep:
                    kept.write(region, y)
                elif last:
                    if not out.numel():
                        size = wanted or graph.output.size
                        out = torch.empty((1, y.shape[1], *size), dtype=y.dtype, device=y.device)
                    out[(slice(None), slice(None), *(slice(a, b) for a, b in region))] = y
                del y
                told()
            if moments is not None:
                walk.moments[work.target] = moments
            for i in work.done:
                walk.stores.pop(i).close()
    finally:
        for store in walk.stores.values():
            store.close()
    return out


class _Walk:
    """What is known so far: kept activations and moments."""

    def __init__(self, graph: Graph, x: Tensor):
        self.graph, self.x = graph, x
        self.stores: dict[int, Store] = {}
        self.moments: dict[int, Moments] = {}
        self.affine: dict[int, Affine] = {}

    def _read(self, i: int, region: Region, work: Pass, over: Store | None) -> Tensor:
        if i:
            return (over if i == work.over and over is not None else self.stores[i]).read(region)
        size = tuple(self.x.shape[2:])
        inside = [clipped(stretch, n) for stretch, n in zip(region, size)]
        x = self.x[(slice(None), slice(None), *(slice(a, b) for a, b in inside))]
        d, h, w = (stop - end for (_, stop), (_, end) in zip(region, inside))
        return F.pad(x, (0, w, 0, h, 0, d), mode="replicate") if d or h or w else x

    def tile(self, work: Pass, region: Region, over: Store | None) -> Tensor:
        """The target of a pass in `region`. over: the store that the target is about to take over."""
        nodes = self.graph.nodes
        starts = set(work.reads)
        need = regions(self.graph, work.target, region, starts)
        left = {i: sum(nodes[j].inputs.count(i) for j in need if j not in starts or j == work.target) for i in need}
        made: dict[int, Tensor] = {}
        own: set[int] = set()  # tensors that nothing else refers to: they may be overwritten
        for i in sorted(need):
            node = nodes[i]
            if i == 0 or (i in starts and i != work.target):
                made[i] = self._read(i, need[i], work, over)
                continue
            inputs, at = [], [node.needs(need[i], nodes[j].size) for j in node.inputs]
            mine = node.inputs[0] in own and left[node.inputs[0]] == 1
            for j, wanted in zip(node.inputs, at):
                left[j] -= 1
                inputs.append(_cut(made[j] if left[j] else made.pop(j), need[j], wanted))
            made[i] = self._compute(i, inputs, at, need[i], mine)
            own.add(i)
            del inputs
        return made[work.target]

    def _compute(self, i: int, inputs: list[Tensor], at: list[Region], region: Region, mine: bool) -> Tensor:
        node = self.graph.nodes[i]
        if node.kind == "local":
            return node.local_output(inputs[0], at[0], region)
        if node.kind == "norm":
            if i not in self.affine:
                device = inputs[0].device
                made = self.moments[node.inputs[0]].affine(node.groups, node.eps, node.weight, node.bias)
                self.affine[i] = (made[0].to(device), made[1].to(device))
            scale, shift = self.affine[i]
            x = inputs[0]
            if mine and x.dtype == torch.float32:
                return x.mul_(scale).add_(shift)
            return torch.addcmul(shift, x.float(), scale)
        if node.kind == "whole":
            return node.make(inputs[0])
        return node.make(*inputs, inplace=mine)


def _cut(x: Tensor, have: Region, want: Region) -> Tensor:
    """The part `want` of a tensor that holds the region `have`."""
    if have == want:
        return x
    return x[(slice(None), slice(None), *(slice(a - o, b - o) for (a, b), (o, _) in zip(want, have)))]
