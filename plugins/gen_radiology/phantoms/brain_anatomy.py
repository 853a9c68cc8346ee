"""One head: brain, skull and scalp as functions of position, drawn from (seed, subject) alone.

Frame: mm in (z, y, x), 0 in the middle of the brain; z rises to the vertex, y to the back, x to the patient's left.
A "canonical" head, the same left and right, is scaled and then bent by a smooth field that is not: near symmetry.
The cortex is folded along the zero sheets of random waves of one wavelength (Berry 1977), which lie apart by half of
it, like sulci; each sheet reaches some way down from the surface and is lined by cortex.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_radiology.phantoms.grid import Grid, Points, SmoothField, Volume, ellipsoid
from gen_radiology.phantoms.tubes import Tubes

REACH_MM = 200.0  # half side of the cube on which fields live
WARP_MM = 2.2
HEMISPHERE = (8.0, 0.0, 0.0)  # centre of the cerebrum
_UP, _DOWN, _BACK, _SIDE = 66.0, 47.0, 84.0, 66.0  # its half axes
_TEMPORAL = ((-23.0, -8.0, 44.0), (23.0, 42.0, 23.0))
_CEREBELLUM = ((-40.0, 46.0, 0.0), (23.0, 29.0, 49.0))
_WAVES = 14
_SULCUS_MM, _SULCUS_SD = 18.0, 5.0  # depth of sulci
_CURL_MM = 3.2  # how far the sheets of sulci are bent


@frozen(eq=False)
class Head:
    """The drawn parameters of a head; lengths in mm."""

    scale: tuple[float, float, float]  # against the canonical head, (z, y, x)
    shift: tuple[float, float]  # of the head in the picture, (y, x)
    tilt: float  # of the head to its shoulder, radians
    ventricles: float  # size
    atrophy: float  # width of sulci, mm
    cortex: float  # thickness
    skull: float
    scalp: float
    waves: NDArray[np.float64]  # (n, 3) wave vectors of the folding, 1/mm
    phases: NDArray[np.float64]  # (2, n): left and right differ a little
    folia: NDArray[np.float64]  # (n, 3) wave vectors of the cerebellum
    depth: SmoothField  # of sulci
    curl: tuple[SmoothField, SmoothField, SmoothField]  # of sulci
    warp: tuple[SmoothField, SmoothField, SmoothField]
    texture: SmoothField
    bias: SmoothField


def draw_head(rng: np.random.Generator) -> Head:
    """A head, whatever the size of the picture."""
    size = rng.normal(1.0, 0.03)
    age = rng.uniform(0.0, 1.0)  # from young to old: ventricles and sulci widen
    directions = rng.normal(size=(_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    k = 2 * np.pi / rng.normal(22.0, 1.5, (_WAVES, 1))
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    folia = rng.normal(size=(8, 3)) * (1.0, 0.55, 0.25)
    return Head(
        scale=tuple(float(size * rng.normal(1.0, 0.025)) for _ in range(3)),
        shift=(float(rng.normal(0.0, 3.5)), float(rng.normal(0.0, 3.0))),
        tilt=float(rng.normal(0.0, 0.03)),
        ventricles=float(0.72 + 0.55 * age + rng.uniform(-0.1, 0.1)),
        atrophy=float(0.55 + 0.75 * age + rng.uniform(-0.1, 0.1)),
        cortex=float(rng.normal(2.9, 0.12)),
        skull=float(rng.uniform(5.5, 8.0)),
        scalp=float(rng.uniform(4.5, 8.0)),
        waves=directions * k,
        phases=np.stack([phases, phases + rng.normal(0.0, 0.18, _WAVES)]),
        folia=folia / np.linalg.norm(folia, axis=1, keepdims=True) * 2 * np.pi / 8.5,
        depth=SmoothField.draw(rng, 30.0, REACH_MM),
        curl=tuple(SmoothField.draw(rng, 20.0, REACH_MM) for _ in range(3)),
        warp=tuple(SmoothField.draw(rng, 55.0, REACH_MM) for _ in range(3)),
        texture=SmoothField.draw(rng, 16.0, REACH_MM),
        bias=SmoothField.draw(rng, 110.0, REACH_MM),
    )


@frozen(eq=False)
class Place:
    """Canonical coordinates of voxels: z, y, x of one shape."""

    z: Volume
    y: Volume
    x: Volume

    def at(self, where: NDArray[np.bool_]) -> Place:
        """Those of some voxels, (n,) each."""
        return Place(self.z[where], self.y[where], self.x[where])


def place(head: Head, grid: Grid) -> Place:
    """Where the voxels of a grid lie in the canonical head, (D, H, W) each."""
    z, y, x = grid.axes
    bend = [np.float32(WARP_MM) * f.on(z, y, x) for f in head.warp]
    return Place(*(a + b for a, b in zip(_upright(head, z, y, x), bend)))


def to_canonical(head: Head, points: Points) -> Points:
    """Picture mm (n, 3) to canonical mm."""
    bend = WARP_MM * np.stack([f.at(points) for f in head.warp], 1)
    return np.stack(_upright(head, *points.T), 1) + bend


def to_picture(head: Head, points: Points) -> Points:
    """Canonical mm (n, 3) to picture mm: the inverse of `to_canonical`, to 0.1 mm."""
    q = points.copy()
    for _ in range(6):
        q = q + (points - to_canonical(head, q))
    return q


def place_tubes(head: Head, tubes: Tubes) -> Tubes:
    """Tubes in canonical mm as they lie in the picture."""
    n, s = len(tubes.start), float(np.mean(head.scale))
    both = to_picture(head, np.concatenate([tubes.start, tubes.stop]))
    return Tubes(both[:n], both[n:], tubes.r0 * s, tubes.r1 * s)


def _upright(head: Head, z: Any, y: Any, x: Any) -> tuple[Any, Any, Any]:
    c, s = np.float32(np.cos(head.tilt)), np.float32(np.sin(head.tilt))
    x = x - np.float32(head.shift[1])
    z, x = c * z + s * x, c * x - s * z
    sz, sy, sx = (np.float32(v) for v in head.scale)
    return z / sz, (y - np.float32(head.shift[0])) / sy, x / sx


def hull_sdf(p: Place) -> tuple[Volume, Volume]:
    """(signed distance to the cerebrum with its temporal lobes, the same of the cerebellum with the stem)."""
    dz = p.z - np.float32(HEMISPHERE[0])
    # The brain is widest behind its middle and tapers to the brow.
    side = _SIDE - 2.5 * np.clip((-p.y - 6.0) / 60.0, -0.3, 1.4) ** 2 * np.sign(-p.y - 6.0).clip(0)
    a, b, c = (dz / np.where(dz > 0, _UP, _DOWN)) ** 2, (p.y / _BACK) ** 2, (p.x / side) ** 2
    # A little of a rounded box, as brains are.
    q = np.sqrt(0.72 * (a + b + c) + 0.28 * np.sqrt(a**2 + b**2 + c**2))
    r = np.sqrt(dz**2 + p.y**2 + p.x**2)
    main = r * (1 - 1 / np.maximum(q, 0.02))
    # The floor of the brain rises over the brow and over the cerebellum.
    floor = -26.0 - p.z + 0.16 * np.maximum(np.abs(p.y) - 20.0, 0.0)
    main = np.maximum(main, floor)
    centre, radii = _TEMPORAL
    lobe = ellipsoid(p.z, p.y, np.abs(p.x), centre, radii)
    cerebrum = np.minimum(main, lobe)
    cerebellum = ellipsoid(p.z, p.y, p.x, *_CEREBELLUM)
    notch = 4.0 - np.hypot(p.x, np.minimum(p.y - 74.0, 0.0) / 1.5)  # between its halves, at the back
    return cerebrum, np.maximum(cerebellum, notch)


@frozen(eq=False)
class Folding:
    """Smooth fields of unit variance, the same left and right, that make each brain's folds its own: (D, H, W)."""

    depth: Volume
    curl: tuple[Volume, Volume, Volume]


def folding(head: Head, grid: Grid) -> Folding:
    """The fields that `sulci` wants, on a grid."""
    z, y, x = grid.axes
    x = np.abs(x - np.float32(head.shift[1]))
    return Folding(head.depth.on(z, y, x), tuple(f.on(z, y, x) for f in head.curl))


def sulci(head: Head, p: Place, fold: Folding, depth: Volume) -> Volume:
    """Distance (mm) to the nearest CSF of the cerebrum's surface, sulci and fissures; negative in it.

    depth: under the hull, positive inside; all of shape (n,).
    """
    medial, lateral = fissures(head, p, fold.depth)
    out = np.minimum(np.minimum(depth, medial), lateral)
    depth = np.minimum(depth, 1.4 * medial)  # the medial wall is folded too, less deeply
    reach = np.maximum(_SULCUS_MM + _SULCUS_SD * fold.depth, 4.0)
    near = depth < reach + 8.0  # deeper there is no sulcus in reach
    z, y, x, depth = p.z[near] - np.float32(HEMISPHERE[0]), p.y[near], p.x[near], depth[near]
    r = np.sqrt(z**2 + y**2 + x**2) + np.float32(1e-3)
    # Points are moved along their ray most of the way to the hull: sheets stand on it, and bend on their way in.
    stretch = (1 + np.clip(depth, 0, None) / r) ** np.float32(0.75)
    curl = [np.float32(_CURL_MM) * c[near] for c in fold.curl]
    u = [a * stretch + c for a, c in zip((z, y, np.abs(x)), curl)]
    sheet = _sheet_distance(head, u, x) / stretch
    below = np.maximum(depth - reach[near], 0)
    opening = np.float32(head.atrophy) * (0.45 + 1.1 * np.exp(-np.clip(depth, 0, None) / 4.0))
    out[near] = np.minimum(out[near], np.sqrt(sheet**2 + below**2) - opening)
    return out


def _sheet_distance(head: Head, u: list[Volume], x: Volume) -> Volume:
    """About the distance of points to the zero sheets of the random waves: |n| / |grad n|, kept from vanishing."""
    k = np.float32(head.waves)
    phase = np.where(x > 0, np.float32(1), np.float32(0))
    total, slope = np.float32(0), [np.float32(0)] * 3
    for j in range(len(k)):
        a = np.float32(head.phases[0, j]) + phase * np.float32(head.phases[1, j] - head.phases[0, j])
        a = a + k[j, 0] * u[0] + k[j, 1] * u[1] + k[j, 2] * u[2]
        total = total + np.cos(a)
        sine = np.sin(a)
        slope = [g + k[j, i] * sine for i, g in enumerate(slope)]
    typical = float(np.sqrt((k**2).sum() / 2))
    gradient = np.sqrt(slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2 + np.float32(0.35 * typical) ** 2)
    return np.abs(total) / gradient


def fissures(head: Head, p: Place, bend: Volume) -> tuple[Volume, Volume]:
    """Distance to the longitudinal fissure above the callosal body and to the Sylvian fissures; negative inside.

    bend: a smooth field of unit variance that keeps them from being flat.
    """
    within = np.maximum(-ellipse_cc(p), 0)
    longitudinal = np.hypot(p.x + 0.8 * bend, within) - (0.9 + 0.7 * head.atrophy)
    line = (
        -9.0 + 0.26 * (p.y + 18.0) + 0.004 * (p.y + 10.0) ** 2 + 3.0 * bend
    )  # height of the Sylvian fissure along the side
    ends = np.maximum(np.maximum(-34.0 - p.y, p.y - 30.0), 0)
    across = p.z - line
    x = np.abs(p.x)
    lateral = np.sqrt(across**2 + np.maximum(37.0 - x, 0) ** 2 + ends**2) - (0.8 + 0.9 * head.atrophy)
    island = 40.0 - 0.010 * (across - 3.0) ** 2 - 0.004 * (p.y + 4.0) ** 2 + 1.5 * bend
    insula = np.sqrt((x - island) ** 2 + np.maximum(np.abs(across - 3) - 11.0, 0) ** 2 + (1.2 * ends) ** 2)
    return longitudinal, np.minimum(lateral, insula - (0.5 + 0.7 * head.atrophy))


def ellipse_cc(p: Place) -> Volume:
    """Signed distance, in the plane between the halves, to the outline of callosal body and what lies under it."""
    dz, dy = p.z + 4.0, p.y - 3.0
    q = np.sqrt((dz / 31.0) ** 2 + (dy / 41.0) ** 2)
    return np.sqrt(dz**2 + dy**2) * (1 - 1 / np.maximum(q, 0.02))


def ventricles(head: Head) -> Tubes:
    """Lateral ventricles with their horns, the aqueduct and the canal, canonical mm."""
    v = head.ventricles
    body = np.array(
        [(3, -35, 9), (10, -24, 8), (17, -8, 9), (19, 8, 11), (16, 22, 17), (8, 33, 24), (5, 46, 25), (4, 58, 22)],
        float,
    )
    radius = np.array([3.0, 4.8, 4.6, 4.6, 5.4, 6.6, 4.2, 2.0]) * v
    horn = np.array([(8, 33, 24), (-7, 28, 30), (-15, 14, 32), (-18, 0, 30)], float)
    parts = []
    for side in (-1.0, 1.0):
        s = np.array([1.0, 1.0, side])
        parts.append(Tubes.polyline(body * s, radius))
        parts.append(Tubes.polyline(horn * s, np.array([4.0, 2.8, 2.0, 1.6]) * v))
    parts.append(Tubes.polyline(np.array([(-8, 16, 0), (-20, 25, 0), (-32, 31, 0)], float), 1.1))
    return Tubes.join(parts)


def caudates() -> Tubes:
    """Caudate nuclei along the side walls of the lateral ventricles, canonical mm."""
    line = np.array([(3, -27, 14), (9, -20, 15), (16, -6, 18), (19, 8, 21), (16, 22, 26)], float)
    radius = np.array([5.0, 5.8, 4.2, 3.0, 2.2])
    return Tubes.join([Tubes.polyline(line * (1, 1, side), radius) for side in (-1.0, 1.0)])


def stem() -> Tubes:
    """Midbrain, pons, medulla and cord, canonical mm."""
    line = np.array([(-8, 14, 0), (-20, 17, 0), (-32, 15, 0), (-44, 20, 0), (-62, 27, 0), (-200, 34, 0)], float)
    return Tubes.polyline(line, np.array([12.0, 13.5, 16.0, 10.5, 7.0, 6.0]))
