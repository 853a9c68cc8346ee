"""Vessels and airways of the chest: the great vessels as they are drawn, those of the lungs as trees.

Trees grow from the hilum to points all over the lung. Each target joins the tree at the node that makes the way to it
short and the way back to the root not long (a balance between least total length and least path; Cuntz et al. 2010,
eq. 1). Radii follow Murray's rule with the exponent 2.7: r^2.7 = sum of r^2.7 over the branches, so
r = r_tip n_tips^(1/2.7).
Points are (n, 3) in (z, y, x) canonical mm.
"""

from __future__ import annotations

import numpy as np

from gen_radiology.phantoms.grid import Points
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT, Chest, lung_sdf, spine_line
from gen_radiology.phantoms.tubes import Tubes

MURRAY = 2.7
_PATH_WEIGHT = 0.35  # of the way back to the root against the length that a branch adds
_STEP_MM = 8.0  # distance of nodes along a branch
_PITCH_MM = 19.5  # of the targets
_TIP_MM = {"artery": 0.90, "vein": 0.85}  # radius
_HILUM = {RIGHT: (-14.0, 10.0, -40.0), LEFT: (-10.0, 14.0, 44.0)}
_VEIN_ROOT = {RIGHT: (-32.0, 10.0, -32.0), LEFT: (-30.0, 14.0, 36.0)}
_CARINA = (0.0, 14.0, 0.0)


def vessels(chest: Chest, rng: np.random.Generator) -> Tubes:
    """Pulmonary arteries and veins of both lungs."""
    trees = []
    for side in (RIGHT, LEFT):
        for kind, root in (("artery", _HILUM), ("vein", _VEIN_ROOT)):
            targets = spread(chest, side, _PITCH_MM, rng)
            if len(targets):
                trees.append(grow(np.array(root[side]), targets, _TIP_MM[kind], rng))
    return Tubes.join(trees)


def airways(chest: Chest, rng: np.random.Generator) -> Tubes:
    """Lumen of trachea, main bronchi and the first bronchi of each lung."""
    carina = np.array(_CARINA)
    trachea = np.array([(330.0, -8.0, 0.0), (160.0, -8.0, 0.0), (60.0, 0.0, 2.0), carina])
    trees = [Tubes.polyline(trachea, 8.6)]
    for side in (RIGHT, LEFT):
        hilum = np.array(_HILUM[side]) + np.array([-4.0, 6.0, 0.0])
        trees.append(Tubes.polyline(np.stack([carina, carina + 0.55 * (hilum - carina), hilum]), [7.0, 6.4, 5.6]))
        targets = spread(chest, side, 46.0, rng)
        if len(targets):
            trees.append(grow(hilum, hilum + 0.55 * (targets - hilum), 1.5, rng))
    return Tubes.join(trees)


def spread(chest: Chest, side: int, pitch: float, rng: np.random.Generator) -> Points:
    """Points all over one lung, at least 3 mm under the pleura: a jittered lattice."""
    axes = [np.arange(lo, hi, pitch) for lo, hi in ((-160, 110), (-110, 110), (0, 150))]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    points = lattice + rng.uniform(-0.48, 0.48, lattice.shape) * pitch
    points[:, 2] *= side
    return points[lung_sdf(chest, *points.T, side) < -3.0]


def grow(root: Points, targets: Points, tip: float, rng: np.random.Generator) -> Tubes:
    """A tree from `root` (3,) to `targets` (n, 3) whose ends have the radius `tip`."""
    order = np.argsort(((targets - root) ** 2).sum(1))
    room = 1 + int(np.ceil(np.sqrt(((targets - root) ** 2).sum(1)) / _STEP_MM + 1).sum())
    nodes, path = np.empty((room, 3)), np.empty(room)
    parent, tips = np.full(room, -1), np.zeros(room)
    nodes[0], path[0], count = root, 0.0, 1
    for target in targets[order]:
        distance = np.sqrt(((nodes[:count] - target) ** 2).sum(1))
        at = int(np.argmin(distance + _PATH_WEIGHT * path[:count]))
        n = max(1, int(np.ceil(distance[at] / _STEP_MM)))
        n = min(n, room - count)
        line = nodes[at] + (target - nodes[at]) * np.linspace(0, 1, n + 1)[1:, None]
        line[:-1] += rng.normal(0.0, 0.9, (n - 1, 3))
        for point in line:
            nodes[count], parent[count] = point, at
            path[count] = path[at] + np.sqrt(((point - nodes[at]) ** 2).sum())
            at, count = count, count + 1
        tips[at] += 1
    for k in range(count - 1, 0, -1):  # children come after their parents
        tips[parent[k]] += tips[k]
    radius = tip * np.maximum(tips, 1.0) ** (1 / MURRAY)
    k = np.arange(1, count)
    return Tubes(nodes[parent[k]], nodes[k], np.minimum(radius[parent[k]], 1.3 * radius[k]), radius[k])


def great_vessels(chest: Chest) -> Tubes:
    """Aorta with its arch, pulmonary trunk, caval veins and the arteries of the neck, canonical mm."""
    r = chest.aorta
    spine_y, _ = spine_line(chest, -20.0)
    back = float(spine_y) - 18
    ascending = [(-42, -18, 4), (-20, -26, -12), (0, -26, -18), (18, -20, -14), (28, -6, -2), (30, 10, 12)]
    descending = [
        (24, 26, 22),
        (6, back - 8, 28),
        (-20, back - 4, 28),
        (-60, back, 24),
        (-100, back, 16),
        (-330, back - 16, 10),
    ]
    parts = [Tubes.polyline(np.array(ascending, float), 1.2 * r), Tubes.polyline(np.array(descending, float), r)]
    parts.append(Tubes.polyline(np.array([ascending[-1], descending[0]], float), [1.2 * r, r]))
    trunk = [(-38, -34, 18), (-16, -32, 24), (-6, -16, 24)]
    parts.append(Tubes.polyline(np.array(trunk, float), 13.0))
    parts.append(Tubes.polyline(np.array([trunk[-1], (-10, -2, 6), (-16, 4, -34)], float), 10.5))  # right branch
    parts.append(Tubes.polyline(np.array([trunk[-1], (-6, 8, 40)], float), 10.5))
    parts.append(
        Tubes.polyline(np.array([(-50, -8, -30), (-10, -12, -30), (40, -14, -26), (66, -18, -22)], float), 9.0)
    )
    parts.append(Tubes.polyline(np.array([(66, -18, -22), (48, -30, 4), (66, -22, 34)], float), 6.5))
    for x0, x1 in ((-8, -24), (4, 14), (12, 30)):
        parts.append(
            Tubes.polyline(np.array([(36, 0, x0), (70, -6, x1), (140, -4, 1.4 * x1), (200, -2, 1.4 * x1)], float), 5.0)
        )
    parts.append(Tubes.polyline(np.array([(-96, 10, -28), (-330, 28, -24)], float), 11.0))  # lower caval vein
    return Tubes.join(parts)
