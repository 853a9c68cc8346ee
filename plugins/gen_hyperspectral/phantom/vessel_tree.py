"""Retinal vessel trees in millimetres: four arcades of arteries and of veins, branching by Murray's law.

Coordinates: origin at the centre of the disc, x towards the fovea (temporal), y down, mm. Radii obey
r0^3 = r1^3 + r2^3 at each branching (Murray 1926). Vessels of one kind never cross, as in the eye: each walks
over a grid of cells and ends where it would enter a cell that another vessel of its kind has passed; an artery
and a vein may cross. A tree depends on its generator alone, not on any image size.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Array = NDArray[np.float64]

ARTERY, VEIN = 0, 1
EXTENT_MM = 11.5  # half side of the square the trees live in
_CELL_MM = 0.27
_STEP_MM = 0.21  # below the cell, so that one step enters a neighbouring cell at most
_ARTERY_RADIUS_MM = 0.058  # of a temporal trunk at the disc; Hubbard 1999: arterioles about 0.11 mm wide
_VEIN_WIDTH = 1.3  # veins against arteries
_AVASCULAR_MM = 0.62  # no drawn vessel comes nearer to the fovea (capillaries are not drawn)
_HILUM_MM = 0.62  # around the disc's centre trunks of one kind still lie together
_SMALLEST_MM = 0.012  # branches below this radius are not drawn


@frozen(eq=False)
class VesselTree:
    """Straight pieces: start and stop (N, 2), radius (N,), kind (N,) ARTERY or VEIN, line (N,) which vessel.

    junctions: (M, 3) radii r0 (before), r1 (goes on), r2 (leaves) of every branching. parent: line -> the line it
    left, -1 for trunks.
    """

    start: Array
    stop: Array
    radius: Array
    kind: NDArray[np.int64]
    line: NDArray[np.int64]
    junctions: Array
    parent: NDArray[np.int64]


class _Growth:
    """The grid of cells and the lines found so far."""

    def __init__(self, generator: np.random.Generator, fovea: Array, scale: float):
        self.g, self.fovea, self.scale = generator, fovea, scale
        self.cells = int(2 * EXTENT_MM / _CELL_MM)
        self.owner = np.full((2, self.cells, self.cells), -1)
        self.points: list[Array] = []  # per line (n + 1, 2)
        self.radii: list[Array] = []  # per line (n,)
        self.kinds: list[int] = []
        self.parents: list[int] = []
        self.junctions: list[tuple[float, float, float]] = []

    def cell(self, p: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        c = np.clip(((p + EXTENT_MM) / _CELL_MM).astype(int), 0, self.cells - 1)
        return c[..., 1], c[..., 0]

    def add(self, points: Array, radius: float, kind: int, parent: int) -> int:
        self.points.append(points)
        self.radii.append(np.full(len(points) - 1, radius))
        self.kinds.append(kind)
        self.parents.append(parent)
        return len(self.points) - 1

    def leave(self, line: int, piece: int, share: float) -> float:
        """A branch takes `share` of the flow at `piece` of `line`: thins the rest, returns the branch's radius."""
        r0 = self.radii[line][piece]
        r1, r2 = r0 * (1 - share) ** (1 / 3), r0 * share ** (1 / 3)
        self.radii[line][piece:] = r1
        self.junctions.append((r0, r1, r2))
        return r2


def grow_tree(generator: np.random.Generator, fovea: Array, scale: float = 1.0) -> VesselTree:
    """Grow both trees of an eye whose fovea lies at `fovea` (2,) mm; `scale` multiplies calibres, nothing else."""
    growth = _Growth(generator, np.asarray(fovea, float), scale)
    _trunks(growth)
    trunks = range(len(growth.points))
    branches = _branches(growth, trunks, count=(6, 9), share=(0.10, 0.34), length=(2.0, 4.8), angle=(0.55, 1.05))
    twigs = _branches(growth, branches, count=(1, 4), share=(0.25, 0.5), length=(0.9, 2.6), angle=(0.5, 0.95))
    _branches(growth, twigs, count=(0, 3), share=(0.3, 0.5), length=(0.5, 1.6), angle=(0.5, 0.9))
    n = [len(r) for r in growth.radii]
    return VesselTree(
        start=np.concatenate([p[:-1] for p in growth.points]),
        stop=np.concatenate([p[1:] for p in growth.points]),
        radius=np.concatenate(growth.radii),
        kind=np.repeat(growth.kinds, n),
        line=np.repeat(np.arange(len(n)), n),
        junctions=np.array(growth.junctions).reshape(-1, 3),
        parent=np.array(growth.parents),
    )


def _trunks(growth: _Growth) -> None:
    """Upper and lower, temporal and nasal trunk of each kind; drawn again where two of a kind would cross."""
    g, fovea = growth.g, growth.fovea
    u = np.linspace(0.0, 1.0, 48) ** 0.85
    hilum = g.normal(0.0, 0.08, (2, 2)) + np.array([[-0.30, 0.0], [-0.20, 0.0]])
    for upper in (1, -1):
        height = g.uniform(2.55, 3.35)  # of the arcade above or below the fovea
        vein_outside = g.choice([-1, 1])
        for temporal in (True, False):
            for kind in (ARTERY, VEIN):
                aside = 0.20 * vein_outside * (1 if kind == VEIN else -1) + g.normal(0.0, 0.07)
                for _ in range(12):
                    p = _trunk(g, u, upper, temporal, height, aside, fovea)
                    p = p + hilum[kind] * (1 - u[:, None]) ** 2
                    free = _free_points(growth, p, kind)
                    if free == len(p):
                        break
                p = p[: max(free, 3)]  # hardly ever: twelve courses met another trunk
                r0 = _ARTERY_RADIUS_MM * (_VEIN_WIDTH if kind == VEIN else 1.0) * g.uniform(0.92, 1.08)
                line = growth.add(p, r0 * growth.scale * (1.0 if temporal else 0.74), kind, -1)
                rows, cols = growth.cell(_dense(p))
                growth.owner[kind, rows, cols] = line


def _trunk(
    g: np.random.Generator, u: Array, upper: int, temporal: bool, height: float, aside: float, fovea: Array
) -> Array:
    """The course of one trunk: (len(u), 2). upper: +1 or -1, the sign of y."""
    phase, pitch = g.uniform(0, 2 * np.pi, 3), np.array([7.0, 12.0, 19.0]) * g.uniform(0.8, 1.25, 3)
    wave = (np.sin(np.outer(u, pitch) + phase) * np.array([0.13, 0.085, 0.05])).sum(1)
    wave *= np.minimum(1.0, 3.0 * u)  # the hilum stays where it is
    if temporal:
        # Up from the disc, over at the height of the arcade above the fovea, then slowly down to the raphe.
        reach = fovea[0] * g.uniform(1.9, 2.2)
        bend = g.uniform(1.55, 1.85)
        x = reach * u**bend
        rise = np.sin(np.minimum(u / g.uniform(0.60, 0.70), 1.0) * np.pi / 2) ** 0.9
        y = (height + aside) * rise * (1 - g.uniform(0.10, 0.35) * np.clip(u - 0.62, 0, None) ** 1.3 / 0.28)
        x, y = x + 0.35 * wave, upper * (y + wave)
        y = y + fovea[1] * np.clip(x / fovea[0], 0.0, 1.5)
    else:
        angle = g.uniform(0.72, 1.12) + 0.10 * aside
        r = 7.5 * u
        turn = angle + (1.25 - angle) * np.exp(-r / 0.8)  # leaves the disc steeply, then fans out
        x, y = -r * np.cos(turn), r * np.sin(turn)
        x, y = x - 0.5 * aside * u + 0.7 * wave, upper * (y + 0.8 * wave + 0.8 * aside * u)
    return np.stack([x, y], 1)


def _dense(p: Array, parts: int = 4) -> Array:
    """Points along a polyline, close enough to visit every cell it passes."""
    f = np.arange(parts)[:, None, None] / parts
    return np.concatenate([(p[:-1] * (1 - f) + p[1:] * f).reshape(-1, 2), p[-1:]])


def _free_points(growth: _Growth, p: Array, kind: int, parts: int = 4) -> int:
    """How many points of a course lie before it meets a vessel of its kind (in the hilum they may lie together)."""
    q = _dense(p, parts)
    rows, cols = growth.cell(q)
    taken = (growth.owner[kind, rows, cols] >= 0) & (np.hypot(*q.T) > _HILUM_MM)
    return int(taken.argmax()) // parts + 1 if taken.any() else len(p)


def _meets(path: Array, other: Array) -> NDArray[np.bool_]:
    """(B,) whether the polyline path (B, n, 2) properly crosses other (B, m, 2)."""
    a, b = path[:, :-1, None], path[:, 1:, None]
    c, d = other[:, None, :-1], other[:, None, 1:]
    hit = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    return hit.any((1, 2))


def _side(p: Array, q: Array, s: Array) -> Array:
    """Positive where s lies left of the line from p to q, negative right of it."""
    return (q[..., 0] - p[..., 0]) * (s[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (s[..., 0] - p[..., 0])


def _branches(
    growth: _Growth,
    lines: range,
    count: tuple[int, int],
    share: tuple[float, float],
    length: tuple[float, float],
    angle: tuple[float, float],
) -> range:
    """Let branches leave `lines` and grow together, one step at a time; returns the lines that were added."""
    g, first = growth.g, len(growth.points)
    n = g.integers(*count, len(lines))
    n[[len(growth.radii[line]) < 5 for line in lines]] = 0
    parent = np.repeat(np.asarray(lines, int), n)
    at, flow = g.uniform(0.12, 0.95, len(parent)), g.uniform(*share, len(parent))
    bend, reach = g.uniform(*angle, len(parent)), g.uniform(*length, len(parent))
    if not len(parent):
        return range(first, first)
    order = np.lexsort((at, parent))  # along each line: a branch thins what lies behind it
    at = at[order]
    side = np.where((np.arange(len(parent)) + g.integers(2)) % 2, 1.0, -1.0)
    pieces = np.array([len(r) for r in growth.radii])
    offset = np.concatenate([[0], np.cumsum(pieces + 1)])[parent]
    points = np.concatenate(growth.points)
    k = np.maximum((at * pieces[parent]).astype(int), 2)
    tangent = points[offset + k + 1] - points[offset + k]
    heading = np.arctan2(tangent[:, 1], tangent[:, 0]) + side * bend
    kind = np.array(growth.kinds)[parent]
    paths, steps = _walk(growth, points[offset + k], heading, parent, kind, reach)
    # Near its start a branch may pass the parent's cells: refuse it where it meets the parent again, or a sibling
    # that left the parent close by.
    start = paths[:7].transpose(1, 0, 2)
    near = offset[:, None] + np.clip(k[:, None] + np.arange(-7, 9), 0, pieces[parent][:, None])
    steps[_meets(start[:, 1:6], points[near])] = 0
    for gap in range(1, min(4, len(parent))):
        met = (parent[gap:] == parent[:-gap]) & (steps[:-gap] > 0) & _meets(start[gap:], start[:-gap])
        steps[gap:][met] = 0
    number = np.full(len(parent), -1)
    for b in np.flatnonzero(steps >= 3):  # shorter ones are no vessels: no blood is taken for them
        line, piece = int(parent[b]), int(k[b])
        if growth.radii[line][piece] * flow[b] ** (1 / 3) > _SMALLEST_MM * growth.scale:
            r = growth.leave(line, piece, flow[b])
            number[b] = growth.add(paths[: steps[b] + 1, b], r, int(kind[b]), line)
    # The grid knew the walkers by provisional numbers; give the cells to the lines that stayed.
    table = np.concatenate([np.arange(first), number])
    taken = growth.owner >= first
    growth.owner[taken] = table[growth.owner[taken]]
    return range(first, len(growth.points))


def _walk(
    growth: _Growth, pos: Array, heading: Array, parent: NDArray, kind: NDArray, length: Array
) -> tuple[Array, NDArray]:
    """All walkers of a generation, step by step: (paths (T + 1, B, 2), steps (B,) each has done)."""
    g, fovea, n = growth.g, growth.fovea, growth.cells
    owner = growth.owner.reshape(-1)  # a view: cells by one number, kind * n^2 + row * n + column
    B, T = len(pos), int(length.max() / _STEP_MM) + 1
    me = len(growth.points) + np.arange(B)
    quota = (length / _STEP_MM).astype(int)
    # Vessels between the arcades bend towards the fovea, the others away from the disc.
    to_fovea = np.arctan2(fovea[1] - pos[:, 1], fovea[0] - pos[:, 0])
    inward = (np.abs(_wrapped(to_fovea - heading)) < 1.35) & (pos[:, 0] > 0.9)
    sign = np.where(inward, 1.0, -1.0)
    goal_x, goal_y = np.where(inward, fovea[0], 2.2), np.where(inward, fovea[1], 0.0)
    drift = g.normal(0.0, 0.5, (T, B))
    turn = g.normal(0.0, 0.6, B)
    alive, steps = np.ones(B, bool), np.zeros(B, int)
    x, y = pos.T.copy()
    row, col = ((pos.T[::-1] + EXTENT_MM) / _CELL_MM).astype(int) * np.array([[n], [1]]) + [
        kind * n * n,
        0 * kind,
    ]
    edge = EXTENT_MM - 1.0  # walkers never come near the rim of the grid
    paths = [pos]
    for t in range(T):
        turn = 0.82 * turn + drift[t]
        if t > 1:
            pull = _wrapped(np.arctan2(sign * (goal_y - y), sign * (goal_x - x)) - heading)
            heading = heading + _STEP_MM * (0.42 * pull + 0.75 * turn)
        x2, y2 = x + _STEP_MM * np.cos(heading), y + _STEP_MM * np.sin(heading)
        alive &= (t < quota) & (np.maximum(np.abs(x2), np.abs(y2)) < edge)
        alive &= (x2 - fovea[0]) ** 2 + (y2 - fovea[1]) ** 2 > _AVASCULAR_MM**2
        x, y = np.where(alive, x2, x), np.where(alive, y2, y)
        row2 = ((y + EXTENT_MM) / _CELL_MM).astype(int) * n + kind * n * n
        col2 = ((x + EXTENT_MM) / _CELL_MM).astype(int)
        # The new cell and both corners of a diagonal step must be free; near its start also the parent's are.
        cells = np.stack([row2 + col2, row + col2, row2 + col])
        o = owner[cells]
        free = (o < 0) | (o == me)
        if t < 4:
            free |= o == parent
        alive &= free.all(0)
        take = (o < 0) & alive
        owner[cells[take]] = np.broadcast_to(me, o.shape)[take]
        # Two walkers may claim a cell in one step: the one that did not get it ends before.
        o = owner[cells[0]]
        alive &= (o == me) | ((o == parent) if t < 4 else False)
        x, y = np.where(alive, x, paths[-1][:, 0]), np.where(alive, y, paths[-1][:, 1])
        row, col = np.where(alive, row2, row), np.where(alive, col2, col)
        steps += alive
        paths.append(np.stack([x, y], 1))
        if not alive.any():
            break
    return np.array(paths), steps


def _wrapped(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def crossings(tree: VesselTree, kind: int, beyond_mm: float = _HILUM_MM) -> int:
    """Number of proper crossings between different vessels of one kind, farther than `beyond_mm` from the disc's
    centre; a branch touches its parent where it leaves it, which is no crossing."""
    of = np.flatnonzero((tree.kind == kind) & (np.hypot(*tree.stop.T) > beyond_mm))
    a, b, line = tree.start[of], tree.stop[of], tree.line[of]
    A, B, C, D, tiny = a[:, None], b[:, None], a[None], b[None], 1e-9
    cross = (_side(A, B, C) * _side(A, B, D) < -tiny) & (_side(C, D, A) * _side(C, D, B) < -tiny)
    cross &= line[:, None] < line[None]
    return int(cross.sum())
