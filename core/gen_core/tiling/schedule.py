"""In which passes a graph is worked through, and what is kept between them.

A norm needs the moments of its whole input: one pass over all tiles for each. What a pass makes is kept for the later
ones, or made again by them where it would be too large to keep; a residual sum is written over its own input, which
nothing else reads any more.
"""

from __future__ import annotations

from attrs import frozen

from gen_core.tiling.graph import Graph, Size
from gen_core.tiling.windows import Region, grid, hull


@frozen
class Pass:
    """One walk over all tiles of the node `target`.

    reads: kept nodes it starts from. norm: gather the target's moments. over: the kept node whose place it takes.
    done: kept nodes that nobody reads after it.
    """

    target: int
    reads: tuple[int, ...]
    norm: bool
    keep: bool
    over: int | None
    done: tuple[int, ...]


def schedule(graph: Graph, largest: float = float("inf")) -> list[Pass]:
    """The passes of a graph, the last one making its output. largest: bytes above which a node is not kept."""
    nodes, last = graph.nodes, len(graph.nodes) - 1
    normed = {node.inputs[0] for node in nodes if node.kind == "norm"}
    held = {i for i in normed if nodes[i].bytes <= largest}
    for i, node in enumerate(nodes):
        if node.kind == "whole":  # it sees all of its input at once: both are made only once
            held |= {i, node.inputs[0]}
    held -= {0, last}
    targets = sorted(normed | held | {last})
    reads = [sources(graph, target, {i for i in held if i < target}) for target in targets]
    passes = []
    for k, target in enumerate(targets):
        later = {i for r in reads[k + 1 :] for i in r}
        done = [i for i in reads[k] if i and i not in later]
        keep = target in held
        over = next((i for i in done if keep and _in_place(graph, target, i, set(reads[k]))), None)
        rest = tuple(i for i in done if i != over)
        passes.append(Pass(target, tuple(reads[k]), target in normed, keep, over, rest))
    return passes


def sources(graph: Graph, target: int, held: set[int]) -> list[int]:
    """The kept nodes (and the input, 0) that a pass for `target` starts from."""
    found, seen, ask = set(), set(), [target]
    while ask:
        for i in graph.nodes[ask.pop()].inputs:
            if i in held or i == 0:
                found.add(i)
            elif i not in seen:
                seen.add(i)
                ask.append(i)
    return sorted(found) if target else [0]


def _in_place(graph: Graph, target: int, source: int, starts: set[int]) -> bool:
    """Whether `target` reads `source` voxel by voxel only, so that it may take its place in the store."""
    nodes = graph.nodes
    if (nodes[target].channels, nodes[target].size) != (nodes[source].channels, nodes[source].size):
        return False
    near, far = {source}, set()  # nodes that depend on `source`: voxel by voxel, or otherwise
    for i in range(source + 1, target + 1):
        inputs = set() if i in starts else set(nodes[i].inputs)
        if inputs & far or (inputs & near and nodes[i].kind not in ("point", "norm")):
            far.add(i)
        elif inputs & near:
            near.add(i)
    return target in near


def regions(graph: Graph, target: int, region: Region, starts: set[int]) -> dict[int, Region]:
    """What every node between `starts` and `target` must hold so that `target` can be made in `region`."""
    need = {target: region}
    for i in range(target, 0, -1):
        if i not in need or (i in starts and i != target):
            continue
        node = graph.nodes[i]
        for source in node.inputs:
            asked = node.needs(need[i], graph.nodes[source].size)
            need[source] = hull(need[source], asked) if source in need else asked
    return need


def tile_of(graph: Graph, work: Pass, tile: Size) -> Size:
    """The tile of a pass's target when `tile` holds for the finest node it touches; 0 = the whole axis."""
    target = graph.nodes[work.target]
    if target.kind == "whole":
        return target.size
    touched = regions(graph, work.target, tuple((0, n) for n in target.size), set(work.reads))  # type: ignore[arg-type]
    finest = [max(graph.nodes[i].size[axis] for i in touched) for axis in range(3)]
    return tuple(n if not t else max(1, min(n, round(t * n / most))) for t, n, most in zip(tile, target.size, finest))  # type: ignore[return-value]


def tiles(graph: Graph, work: Pass, tile: Size, wanted: Size | None = None) -> list[Region]:
    """The tiles of a pass. wanted: of the output, only the first so many voxels of each axis."""
    return grid(wanted or graph.nodes[work.target].size, tile_of(graph, work, tile))
