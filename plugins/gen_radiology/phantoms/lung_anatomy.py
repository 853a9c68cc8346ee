"""One chest: its outlines, organs and bones as functions of position, drawn from (seed, subject) alone.

Frame: mm in (z, y, x), the carina at 0; z rises to the head, y to the back, x to the patient's left. The chest is
drawn upright and symmetric in "canonical" mm and warped by a smooth field in the plane into the patient's.
Source of proportions: an adult supine with the arms up, at full inspiration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_radiology.phantoms.grid import Grid, Points, SmoothField, Volume
from gen_radiology.phantoms.tubes import Tubes

RIGHT, LEFT = -1, 1  # sign of x: images show the patient's right on the left
REACH_MM = 300.0  # half side of the cube on which fields live

# Outline of the body: height, half width, half depth.
_BODY = np.array(
    [
        (-330, 158, 112), (-150, 164, 115), (-90, 171, 118), (-30, 176, 118), (30, 183, 109), (65, 197, 99),
        (95, 203, 88), (118, 180, 74), (136, 118, 63), (152, 76, 58), (180, 66, 60), (330, 66, 60),
    ],
    float,
)  # fmt: skip
# The cage of a lung: height, centre x and y, half width, half depth. The diaphragm cuts it below.
CAGE = np.array(
    [
        (-330, 70, 2, 60, 84), (-190, 74, 4, 64, 88), (-150, 76, 6, 66, 91), (-70, 75, 4, 67, 93),
        (-30, 72, 4, 65, 89), (10, 65, 6, 58, 78), (50, 55, 12, 45, 60), (75, 47, 17, 33, 42),
        (92, 41, 21, 21, 25), (100, 39, 23, 12, 13), (104, 38, 24, 5, 5), (330, 38, 24, 5, 5),
    ],
    float,
)  # fmt: skip
# What keeps the lungs apart: height, half width, half depth, centre y.
_MIDDLE = np.array(
    [
        (-330, 46, 80, 2), (-120, 34, 78, 2), (-60, 29, 78, 4), (0, 30, 74, 6), (40, 34, 66, 10), (80, 40, 60, 14),
        (110, 50, 54, 14), (330, 50, 54, 14),
    ],
    float,
)  # fmt: skip


@frozen(eq=False)
class Chest:
    """The drawn parameters of a chest; lengths in mm."""

    female: bool
    scale: tuple[float, float, float]  # of the patient against the canonical chest, (z, y, x)
    shift: tuple[float, float]  # of the patient in the picture, (y, x)
    fat: float  # thickness under the skin
    domes: tuple[float, float]  # heights of the diaphragm, right and left
    heart: tuple[float, float, float, float]  # centre z, y, x and a factor of its size
    spine_bend: float
    disc_phase: float
    aorta: float  # radius
    table_gap: float
    table_sag: float
    density: float  # HU of inspired lung
    gas: float  # size of the bubble in the stomach
    warp: tuple[SmoothField, SmoothField]  # canonical - upright, (y, x)
    mottle: SmoothField  # slow texture
    streaks: SmoothField  # of muscle and fat
    grain: SmoothField  # fine texture of lung


def draw_chest(rng: np.random.Generator) -> Chest:
    """A chest, whatever the size of the picture."""
    female = bool(rng.integers(2))
    size = rng.normal(0.95 if female else 1.03, 0.035)
    right = rng.normal(-76.0, 8.0)
    return Chest(
        female=female,
        scale=(float(size * rng.normal(1.0, 0.05)), float(size * rng.normal(1.0, 0.05)), float(size)),
        shift=(float(rng.normal(-8.0, 7.0)), float(rng.normal(0.0, 6.0))),
        fat=float(np.clip(rng.lognormal(np.log(13.0), 0.4), 5.0, 32.0)),
        domes=(float(right), float(right - rng.uniform(6.0, 20.0))),
        heart=(
            float(rng.normal(-62.0, 5.0)),
            float(rng.normal(-22.0, 4.0)),
            float(rng.normal(22.0, 5.0)),
            float(rng.normal(1.0, 0.07)),
        ),
        spine_bend=float(rng.normal(0.0, 4.0)),
        disc_phase=float(rng.uniform(0.0, 1.0)),
        aorta=float(rng.uniform(11.5, 15.0)),
        table_gap=float(rng.uniform(0.0, 14.0)),
        table_sag=float(rng.uniform(10.0, 45.0)),
        density=float(rng.uniform(-900.0, -868.0)),
        gas=float(rng.uniform(0.3, 1.0)),
        warp=(SmoothField.draw(rng, 75.0, REACH_MM), SmoothField.draw(rng, 75.0, REACH_MM)),
        mottle=SmoothField.draw(rng, 38.0, REACH_MM),
        streaks=SmoothField.draw(rng, (60.0, 22.0, 22.0), REACH_MM),
        grain=SmoothField.draw(rng, 9.0, 190.0),
    )


WARP_MM = 5.0


@frozen(eq=False)
class Place:
    """Canonical coordinates of a grid's voxels: z (D, 1, 1), y and x (D, H, W)."""

    z: Volume
    y: Volume
    x: Volume


def place(chest: Chest, grid: Grid) -> Place:
    """Where the voxels of a grid lie in the canonical chest."""
    z, y, x = grid.axes
    z = z / np.float32(chest.scale[0])
    y = (y - np.float32(chest.shift[0])) / np.float32(chest.scale[1])
    x = (x - np.float32(chest.shift[1])) / np.float32(chest.scale[2])
    warp = [np.float32(WARP_MM) * f.on(z, y, x) for f in chest.warp]
    return Place(z, y + warp[0], x + warp[1])


def to_canonical(chest: Chest, points: Points) -> Points:
    """Patient mm (n, 3) to canonical mm."""
    q = (points - np.array([0.0, *chest.shift])) / np.array(chest.scale)
    return q + WARP_MM * np.stack([np.zeros(len(q)), chest.warp[0].at(q), chest.warp[1].at(q)], 1)


def to_patient(chest: Chest, points: Points) -> Points:
    """Canonical mm (n, 3) to patient mm: the inverse of `to_canonical`, to 0.1 mm."""
    q = points
    for _ in range(6):
        q = points - WARP_MM * np.stack([np.zeros(len(q)), chest.warp[0].at(q), chest.warp[1].at(q)], 1)
    return q * np.array(chest.scale) + np.array([0.0, *chest.shift])


def place_tubes(chest: Chest, tubes: Tubes) -> Tubes:
    """Tubes in canonical mm as they lie in the patient; radii grow with the patient."""
    n, s = len(tubes.start), float(np.mean(chest.scale))
    both = to_patient(chest, np.concatenate([tubes.start, tubes.stop]))
    return Tubes(both[:n], both[n:], tubes.r0 * s, tubes.r1 * s)


def columns(table: NDArray, z: Any) -> list[Any]:
    return [np.interp(z, table[:, 0], table[:, k]).astype(np.asarray(z).dtype) for k in range(1, table.shape[1])]


def ellipse(u: Any, v: Any, a: Any, b: Any) -> Any:
    """Signed distance to an ellipse of half axes a, b, along the ray to its centre (u, v offsets from it)."""
    q = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    return np.sqrt(u**2 + v**2) * (1 - 1 / np.maximum(q, 0.02))


def body_sdf(chest: Chest, p: Place) -> Volume:
    """Signed distance to the skin, breasts included."""
    a, b = columns(_BODY, p.z)
    grow = np.float32(chest.fat - 13.0)
    a, b = a + grow, b + grow * np.float32(0.8)
    u, v = p.x / a, (p.y - 2) / b
    # Between an ellipse and a rounded box, as chests are.
    round2, box4 = u**2 + v**2, np.sqrt(u**4 + v**4)
    q = np.sqrt(0.45 * round2 + 0.55 * box4)
    sdf = np.sqrt(p.x**2 + (p.y - 2) ** 2) * (1 - 1 / np.maximum(q, 0.02))
    if chest.female:
        sdf = np.minimum(sdf, breast_sdf(chest, p))
    return sdf


def breast_sdf(chest: Chest, p: Place) -> Volume:
    """Signed distance to both breasts; they flatten on a lying patient."""
    size = np.float32(0.75 + chest.fat / 40)
    dz, dy, dx = (p.z + 42) / (50 * size), (p.y + 96) / (34 * size), (np.abs(p.x) - 84) / (58 * size)
    q = np.sqrt(dz**2 + dy**2 + dx**2)
    return (q - 1) * 40 * size


def cage_sdf(z: Any, y: Any, x: Any, side: int) -> Any:
    """Signed distance to the cage of one lung, diaphragm and mediastinum left out; arrays or scalars alike."""
    cx, cy, a, b = columns(CAGE, z)
    return ellipse(x - side * cx, y - cy, a, b)


def middle_sdf(z: Any, y: Any, x: Any) -> Any:
    """Signed distance to the mediastinum without heart and spine."""
    a, b, cy = columns(_MIDDLE, z)
    return np.minimum(ellipse(x, y - cy, a, b), np.maximum(np.abs(x) - 2.0, np.abs(y - cy) - b - 4.0))


def spine_line(chest: Chest, z: Any) -> tuple[Any, Any]:
    """Centre of the vertebral bodies (y, x) at height z."""
    forward = 12.0 * ((z + 25) / 130.0) ** 2 + 0.003 * np.maximum(z - 60.0, 0.0) ** 2
    return np.maximum(64.0 - forward, 12.0), chest.spine_bend * np.cos((z + 40) / 110.0)


def heart_sdf(chest: Chest, z: Any, y: Any, x: Any) -> Any:
    """Signed distance to the heart: an egg whose tip points down, forward and left."""
    cz, cy, cx, size = chest.heart
    dz, dy, dx = z - cz, y - cy, x - cx
    # Long axis (z, y, x) of unit length; the two short ones follow.
    along = -0.50 * dz - 0.42 * dy + 0.757 * dx
    r2 = dz**2 + dy**2 + dx**2
    across = np.sqrt(np.maximum(r2 - along**2, 0))
    wide = 48 - 0.14 * along  # an egg: the base, at the back, is the wider end
    q = np.sqrt((along / 64) ** 2 + (across / wide) ** 2) / size
    return np.sqrt(r2) * (1 - 1 / np.maximum(q, 0.02))


def dome_height(chest: Chest, y: Any, x: Any, side: int) -> Any:
    """Height of the diaphragm under one lung."""
    top = chest.domes[0] if side == RIGHT else chest.domes[1]
    return top - 62 * (((x - side * 70) / 66) ** 2 + ((y + 12) / 98) ** 2) - 0.10 * y


def lung_sdf(chest: Chest, z: Any, y: Any, x: Any, side: int) -> Any:
    """Signed distance (approximate, canonical mm) to the pleura of one lung, negative inside."""
    spine_y, spine_x = spine_line(chest, z)
    sdf = np.maximum(cage_sdf(z, y, x, side), -side * x + 2.0)
    sdf = np.maximum(sdf, -middle_sdf(z, y, x))
    sdf = np.maximum(sdf, 3.0 - heart_sdf(chest, z, y, x))
    sdf = np.maximum(sdf, 24.0 - np.sqrt((y - spine_y) ** 2 + (x - spine_x) ** 2))
    return np.maximum(sdf, 0.85 * (dome_height(chest, y, x, side) - z))
