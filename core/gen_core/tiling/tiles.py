"""How a codec sends volumes through its networks: whole, in exact tiles, or in blended ones.

Settings: `gen_core.options.TilingOptions`. What is chosen depends on sizes and on the memory that the machine has in
all, never on what is free just now: a run that goes on chooses alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from gen_core.errors import RecipeError
from gen_core.options import TilingOptions
from gen_core.tiling.blend import run_blended
from gen_core.tiling.execute import run_tiled
from gen_core.tiling.forecast import Forecast, forecast, whole_bytes
from gen_core.tiling.graph import Graph, Size
from gen_core.tiling.store import FileStore, MemoryStore, Store

MOST_WORK = 2 << 30  # bytes of a tile's own activations at most: larger tiles gain nothing


@frozen
class Choice:
    """What happens to one network. tile: none = the whole volume at once. largest: see `schedule`."""

    tile: Size | None
    largest: float = float("inf")
    in_memory: bool = True
    forecast: Forecast | None = None


def machine_memory(device: torch.device) -> int:
    """Bytes of memory that the device (or this process's control group) has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


def check_tiling(recipe: Any, codec: Any) -> None:
    """Raises: RecipeError when a recipe asks for tiles and its codec has no graphs to cut them from."""
    if recipe.tiling.mode in ("exact", "fast") and codec.fitted and not codec.graphs():
        raise RecipeError(
            f"{recipe.path}: [tiling] mode = \"{recipe.tiling.mode}\": the codec '{recipe.table('codec').use}' "
            'does not say how its networks are built, so they cannot be cut into tiles; use tiling.mode = "off"'
        )


class Tiles:
    """Set as `codec.tiles` by a run; `run` is what codecs call for their networks."""

    def __init__(
        self, options: TilingOptions, device: torch.device, scratch: Path, told: Callable[[], Any] = lambda: None
    ):
        self.options, self.device, self.told = options, device, told
        self.scratch = Path(options.scratch) if options.scratch else scratch
        self._chosen: dict[Any, Choice] = {}
        self.memory = options.memory_gib * 2**30 or machine_memory(device) / 2

    def choose(self, graph: Graph, wanted: Size | None = None, batch: int = 1) -> Choice:
        """How a network goes that `graph` describes. batch: volumes that the whole would take at once."""
        o = self.options
        if o.mode in ("off", "fast") or (o.mode == "auto" and batch * whole_bytes(graph) <= self.memory):
            return Choice(None)
        key = (graph.nodes[0].size, graph.output.size, graph.output.channels, len(graph.nodes), wanted)
        if key not in self._chosen:
            self._chosen[key] = self._tiled(graph, wanted)
        return self._chosen[key]

    def _tiled(self, graph: Graph, wanted: Size | None) -> Choice:
        o = self.options
        # volume and result are there in any case; work and store share the rest
        ends = graph.nodes[0].bytes + graph.output.bytes
        room = max(self.memory - ends, self.memory / 4)
        tile = o.tile or self._tile(graph, min(room / 2, MOST_WORK), wanted)
        told = forecast(graph, tile, wanted=wanted)
        return Choice(tile, in_memory=told.kept + told.work <= room, forecast=told)

    def _tile(self, graph: Graph, room: float, wanted: Size | None) -> Size:
        """The largest tile, halved along its longest axis until its work fits into `room` bytes."""
        finest = [max(node.size[axis] for node in graph.nodes) for axis in range(3)]
        tile = list(finest)
        while forecast(graph, tuple(tile), wanted=wanted).work > room and max(tile) > 32:  # type: ignore[arg-type]
            axis = tile.index(max(tile))
            tile[axis] = -(-tile[axis] // 2)
        return tuple(tile)  # type: ignore[return-value]

    def _new_store(self, choice: Choice) -> Callable[[tuple[int, int, int, int]], Store]:
        if choice.in_memory:
            return lambda shape: MemoryStore(shape, self.device)
        return lambda shape: FileStore(shape, self.scratch, self.device)

    def run(
        self,
        graph: Graph,
        network: Callable[[Tensor], Tensor],
        x: Tensor,
        step: Sequence[int],
        wanted: Size | None = None,
    ) -> Tensor | None:
        """The network's output for x (B, C, D, H, W), or None where x had better go through as a whole.

        graph: of one volume of x's size. step: sizes of blended tiles are multiples of it. wanted: only the first so
        many voxels of each axis.
        """
        o = self.options
        if o.mode == "off":
            return None
        if o.mode == "fast":
            return torch.cat([self._blended(graph, network, one[None], step, wanted) for one in x])
        choice = self.choose(graph, wanted, len(x))
        if choice.tile is None:
            return None
        store = self._new_store(choice)
        one = lambda v: run_tiled(graph, v, choice.tile, store, wanted=wanted, largest=choice.largest, told=self.told)
        return one(x) if len(x) == 1 else torch.cat([one(v[None]) for v in x])

    def _blended(
        self, graph: Graph, network: Callable[[Tensor], Tensor], x: Tensor, step: Sequence[int], wanted: Size | None
    ) -> Tensor:
        into, out = graph.nodes[0].size, graph.output
        scale = [Fraction(b, a) for a, b in zip(into, out.size)]
        finest = [max(1, s) for s in scale]  # `tile` counts voxels of the volume, x may be the latent
        up = lambda n, s: -(-int(n) // s) * s
        tile = self.options.tile or (0, 256, 256)
        size = [
            min(up(Fraction(t) / f, s), up(n, s)) if t else up(n, s) for t, f, s, n in zip(tile, finest, step, into)
        ]
        lap = [min(up(Fraction(self.options.overlap) / f, s), t // 2 // s * s) for f, s, t in zip(finest, step, size)]
        return run_blended(network, x, tuple(size), tuple(lap), step, scale, out.channels, wanted or out.size)  # type: ignore[arg-type]
