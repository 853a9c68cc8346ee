"""Ribs and shoulder girdle of a chest as tubes, in the canonical mm of its anatomy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen_radiology.phantoms.grid import Points
from gen_radiology.phantoms.lung_anatomy import CAGE, LEFT, RIGHT, Chest, columns
from gen_radiology.phantoms.tubes import Tubes

# Ribs: height at the spine, drop to the front, angle at which bone ends (degrees; 90 back, 0 side, -90 front).
_RIBS = (
    (86, 26, -100), (68, 46, -95), (49, 58, -88), (28, 68, -80), (6, 76, -72), (-16, 80, -66),
    (-38, 80, -60), (-60, 76, -52), (-82, 66, -42), (-104, 52, -30), (-126, 36, 10), (-147, 18, 45),
)  # fmt: skip


def ribs(chest: Chest) -> tuple[Tubes, Tubes]:
    """(bone, cartilage) of twelve pairs of ribs, canonical mm."""
    bone, cartilage = [], []
    for k, (top, drop, end) in enumerate(_RIBS):
        for side in (RIGHT, LEFT):
            phi = np.radians(np.linspace(128, end, 26))
            z = top + 4 - drop * ((128 - np.degrees(phi)) / 228.0) ** 1.15
            points = _on_cage(z, phi, side, 6.5)
            points[0] += [2.0, -4.0, -side * 6.0]
            bone.append(Tubes.polyline(points, 5.6 if k else 6.5))
            if k < 10:
                tip = points[-1]
                toward = np.array([max(-95.0, min(tip[0] + 22, 62 - 18 * k)), -84.0, side * (14 + 5 * max(k - 6, 0))])
                bend = np.radians(min(-62, end - 20))
                middle = _on_cage(np.array([0.5 * (tip[0] + toward[0]) - 6]), np.array([bend]), side, 6.0)
                cartilage.append(Tubes.polyline(np.concatenate([[tip], middle, [toward]]), 5.0))
    return Tubes.join(bone), Tubes.join(cartilage)


def _on_cage(z: NDArray, phi: NDArray, side: int, out: float) -> Points:
    cx, cy, a, b = columns(CAGE, z)
    return np.stack([z, cy + (b + out) * np.sin(phi), side * (cx + (a + out) * np.cos(phi))], 1)


def shoulder_bones() -> Tubes:
    """Clavicles, shoulder blades and the heads of the arms, canonical mm."""
    parts = []
    for side in (RIGHT, LEFT):
        s = np.array([1.0, 1.0, side])
        clavicle = np.array([(76, -66, 18), (84, -66, 50), (94, -48, 88), (100, -26, 128), (104, -12, 150)])
        parts.append(Tubes.polyline(clavicle * s, 6.0))
        spine = np.array([(62, 96, 78), (74, 90, 105), (88, 66, 138), (96, 40, 160)])
        parts.append(Tubes.polyline(spine * s, 4.5))
        for low, high in (((-34, 104, 100), (60, 92, 76)), ((-34, 104, 100), (70, 46, 148))):  # the blade's borders
            parts.append(Tubes.polyline(np.array([low, np.add(low, high) / 2 + (0, 3, 0), high]) * s, 4.0))
        for t in (0.25, 0.5, 0.75):  # its plate
            a = np.array((-34, 104, 100)) * (1 - t) + np.array((60, 92, 76)) * t
            b = np.array((-34, 104, 100)) * (1 - t) + np.array((70, 46, 148)) * t
            parts.append(Tubes.polyline(np.stack([a, (a + b) / 2 + (0, 4, 0), b]) * s, 2.2))
        parts.append(Tubes.polyline(np.array([(92, 22, 158), (120, 12, 160)]) * s, 20.0))
    return Tubes.join(parts)
