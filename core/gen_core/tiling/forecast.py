"""How much memory a graph takes, whole or in tiles: counted from shapes, nothing is computed."""

from __future__ import annotations

from attrs import frozen

from gen_core.tiling.graph import Graph, Size
from gen_core.tiling.schedule import Pass, regions, schedule, tiles
from gen_core.tiling.windows import voxels, whole

CONVOLUTION = 2.0  # a convolution's own buffers (padded input, reordered input and output), in sizes of these


@frozen
class Forecast:
    """Bytes, beside the volume that goes in and the one that comes out.

    work: the largest tile with everything computed for it; kept: activations between passes, at their peak;
    computed: voxels x channels made, as a multiple of those of the whole at once (halos, and what is made again).
    """

    work: float
    kept: float
    computed: float
    passes: int


def whole_bytes(graph: Graph) -> float:
    """Peak of the plain network on the whole volume, without gradients: what lives at once while it runs."""
    return _live(graph, len(graph.nodes) - 1, {i: whole(node.size) for i, node in enumerate(graph.nodes)}, set())


def _live(graph: Graph, target: int, need: dict, starts: set[int]) -> float:
    """Peak bytes of float32 tensors while `target` is computed from `starts`, holding the regions `need`."""
    nodes = graph.nodes
    size = lambda i: 4.0 * nodes[i].channels * voxels(need[i])
    left = {i: sum(nodes[j].inputs.count(i) for j in need if j not in starts or j == target) for i in need}
    alive = peak = 0.0
    for i in sorted(need):
        if i in starts and i != target or i == 0:
            alive += size(i)
            continue
        inputs, node = nodes[i].inputs, nodes[i]
        buffers = CONVOLUTION * (size(inputs[0]) + size(i)) if node.kind in ("local", "whole") else 0.0
        in_place = node.kind in ("point", "norm") and left[inputs[0]] == 1
        peak = max(peak, alive + (0.0 if in_place else size(i)) + buffers)
        alive += size(i)
        for j in inputs:
            left[j] -= 1
            if not left[j]:
                alive -= size(j)
        peak = max(peak, alive)
    return max(peak, alive)


def forecast(graph: Graph, tile: Size, largest: float = float("inf"), wanted: Size | None = None) -> Forecast:
    """What `run_tiled` will take with the same arguments."""
    held: dict[int, int] = {}
    work_bytes = kept_bytes = made = 0.0
    passes = schedule(graph, largest)
    for work in passes:
        node = graph.nodes[work.target]
        starts = set(work.reads)
        if work.over is not None:
            held.pop(work.over)
        if work.keep:
            held[work.target] = node.bytes
        kept_bytes = max(kept_bytes, sum(held.values()))
        seen: dict[tuple, tuple[float, float]] = {}  # tiles of a kind: those inside differ in place only
        last = work.target == len(graph.nodes) - 1
        for region in tiles(graph, work, tile, wanted if last else None):
            need = regions(graph, work.target, region, starts)
            shape = tuple((i, voxels(r)) for i, r in need.items())
            if shape not in seen:
                seen[shape] = (_live(graph, work.target, need, starts), _made(graph, work, need, starts))
            work_bytes = max(work_bytes, seen[shape][0])
            made += seen[shape][1]
        for i in work.done:
            held.pop(i)
    once = sum(4.0 * n.channels * n.size[0] * n.size[1] * n.size[2] for n in graph.nodes if n.kind == "local")
    return Forecast(work_bytes, kept_bytes, made / once if once else 1.0, len(passes))


def _made(graph: Graph, work: Pass, need: dict, starts: set[int]) -> float:
    return sum(
        4.0 * graph.nodes[i].channels * voxels(region)
        for i, region in need.items()
        if graph.nodes[i].kind == "local" and (i not in starts or i == work.target)
    )
