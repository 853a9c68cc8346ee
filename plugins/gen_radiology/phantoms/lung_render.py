"""From a chest to a CT in HU: tissues painted over each other, the scanner's blur and its correlated noise.

HU: air -1000, inspired lung -910..-850, fat -100..-50, soft tissue 25..60, blood 45..65, marrow about 300, cortex
700..1800. Shapes: (D, H, W) float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gen_radiology.phantoms import lung_anatomy as anatomy
from gen_radiology.phantoms.grid import Grid, Volume, ellipsoid, paint, soft
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT, Chest, Place
from gen_radiology.phantoms.lung_bones import ribs, shoulder_bones
from gen_radiology.phantoms.lung_nodules import Nodule, nodule_cover
from gen_radiology.phantoms.lung_vessels import great_vessels
from gen_radiology.phantoms.tubes import Tubes, cover

AIR, FAT, MUSCLE, BLOOD, HEART, LIVER = -1000.0, -88.0, 48.0, 52.0, 46.0, 57.0
MARROW, CORTEX, CARTILAGE, DISC, CORD = 280.0, 950.0, 110.0, 75.0, 28.0
BLUR = 0.42  # sd of the scanner's blur in voxels, beside the voxel itself: together about one voxel wide
NOISE_BLUR = (0.35, 0.65, 0.65)  # sd in voxels of the kernel that correlates the noise, (z, y, x)


def noise_free(
    chest: Chest, grid: Grid, vessels: Tubes, airways: Tubes, nodule: Nodule | None, table: bool = True
) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """(HU, masks nodule, lung and body) before noise."""
    p, w = anatomy.place(chest, grid), grid.width
    hu = np.full(grid.size, AIR, np.float32)
    mottle = chest.mottle.on(*grid.axes)
    body = anatomy.body_sdf(chest, p)
    if table:
        _table(hu, chest, grid, body)
    inside = soft(body, w)
    wall = _wall(hu, chest, grid, p, body, inside, mottle)
    _middle(hu, chest, grid, p, wall, w)
    lungs, depth = _lungs(hu, chest, grid, p, mottle, w)
    _tubes(hu, chest, grid, vessels, airways, lungs)
    _bones(hu, chest, grid, p, soft(body + 3.0, w))
    mask = np.zeros(grid.size, bool)
    if nodule is not None:
        _nodule(hu, mask, nodule, grid, lungs)
    hu = ndimage.gaussian_filter(hu, BLUR, mode="nearest", truncate=3.0)
    return hu, {"nodule": mask, "lung": lungs >= 0.5, "body": inside >= 0.5}


def add_noise(hu: Volume, sd: float, body: NDArray[np.bool_], rng: np.random.Generator) -> Volume:
    """HU with correlated noise of the given sd; in air around the patient it is weaker."""
    if sd <= 0:
        return hu
    noise = correlated(hu.shape, rng)
    far = ndimage.gaussian_filter(body.astype(np.float32), (0, hu.shape[1] / 16, hu.shape[2] / 16), mode="nearest")
    return hu + np.float32(sd) * (0.45 + 0.55 * far) * noise


def correlated(shape: tuple[int, ...], rng: np.random.Generator) -> Volume:
    """Gaussian noise of unit sd, white noise smoothed by NOISE_BLUR."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), NOISE_BLUR, mode="wrap")
    gain = 1.0
    for n, sigma in zip(shape, NOISE_BLUR):
        delta = np.zeros(n)
        delta[0] = 1.0
        gain *= np.sqrt((ndimage.gaussian_filter1d(delta, sigma, mode="wrap") ** 2).sum())
    return noise / np.float32(gain)


def _table(hu: Volume, chest: Chest, grid: Grid, body: Volume) -> None:
    """A curved couch under the patient's back: a shell of carbon fibre around foam."""
    _, y, x = grid.axes
    back = chest.shift[0] + chest.scale[1] * 120.0 + 0.8 * (chest.fat - 13.0) + chest.table_gap
    top = back - chest.table_sag * (x / 210.0) ** 2
    slab = np.maximum(np.abs(y - top - 14.0) - 12.0, np.abs(x) - 215.0)
    slab = np.broadcast_to(slab, grid.size)
    paint(hu, soft(slab, grid.width), -120.0)
    paint(hu, soft(slab + 2.6, grid.width), -930.0)


def _wall(hu: Volume, chest: Chest, grid: Grid, p: Place, body: Volume, inside: Volume, mottle: Volume) -> Volume:
    """Skin, fat, muscles with fat between them; returns the signed distance to the chest's inner space."""
    w = grid.width
    cage = np.minimum(anatomy.cage_sdf(p.z, p.y, p.x, RIGHT), anatomy.cage_sdf(p.z, p.y, p.x, LEFT))
    wall = np.maximum(np.minimum(cage, anatomy.middle_sdf(p.z, p.y, p.x)), body + 4.0)
    paint(hu, inside, 15.0)  # skin
    paint(hu, soft(body + 1.8, w), FAT + 4.0 * mottle)
    if chest.female:
        gland = anatomy.breast_sdf(chest, p) + 11.0 + 5.0 * mottle
        paint(hu, soft(gland, w) * soft(body + 5.0, w), 15.0 - 60.0 * np.clip(mottle, -1, 1))
    thick = chest.fat * (1.0 + 0.22 * mottle)
    # Muscles cover the cage by some 17 mm and never reach the skin.
    muscle = np.maximum(body + thick, cage - 19.0 - 3.0 * mottle)
    back = np.maximum(body + thick, np.maximum(30.0 - p.y, np.abs(p.x) - 62.0))
    neck = np.maximum(body + np.minimum(thick, 9.0), 52.0 + 0.18 * (140.0 - np.abs(p.x)) + 9.0 * mottle - p.z)
    muscle = np.minimum(np.minimum(muscle, back), neck)
    streaks = np.abs(chest.streaks.on(*grid.axes))
    between = np.clip(1.0 - streaks / 0.20, 0.0, 1.0) * soft(4.0 - cage, w)
    paint(hu, soft(muscle, w), MUSCLE + 3.0 * mottle - 105.0 * between)
    return wall


def _middle(hu: Volume, chest: Chest, grid: Grid, p: Place, wall: Volume, w: float) -> None:
    """Fat of the mediastinum with heart and great vessels; the organs under the diaphragm."""
    paint(hu, soft(wall, w), FAT - 4.0)
    dome = np.maximum(anatomy.dome_height(chest, p.y, p.x, RIGHT), anatomy.dome_height(chest, p.y, p.x, LEFT))
    dome = np.maximum(dome, chest.domes[1] - 24.0 - 0.010 * (p.y + 10) ** 2 - 0.006 * p.x**2)
    under = np.maximum(p.z - dome, wall)
    if (p.z < chest.domes[0] + 20).any():
        paint(hu, soft(under, w), 42.0)
        paint(hu, soft(np.maximum(p.z - dome + 5.0, wall + 5.0), w), FAT - 10.0)
        liver = np.maximum(np.maximum(p.z - dome + 3.0, wall + 3.0), p.x - 24.0 + 0.8 * (p.y + 40.0) - 0.15 * p.z)
        paint(hu, soft(liver, w), LIVER)
        keep = soft(np.maximum(p.z - dome + 4.0, wall + 3.0), w)
        stomach = ellipsoid(p.z, p.y, p.x, (chest.domes[1] - 52, -22.0, 66.0), (50.0, 46.0, 44.0))
        paint(hu, soft(stomach, w) * keep, 40.0)
        level = p.y + 20.0 + 38.0 * (1.0 - chest.gas)
        paint(hu, soft(np.maximum(stomach + 5.0, level), w) * keep, 12.0)
        paint(hu, soft(np.maximum(stomach + 5.0, level + 8.0), w) * keep, -960.0)
        spleen = ellipsoid(p.z, p.y, p.x, (chest.domes[1] - 58, 46.0, 98.0), (44.0, 34.0, 24.0))
        paint(hu, soft(spleen, w) * keep, 50.0)
    # Muscle and organs beneath heart and spine never rise above the diaphragm; the heart rests on it.
    heart = anatomy.heart_sdf(chest, p.z, p.y, p.x)
    if (heart < 8).any():
        paint(hu, soft(np.maximum(heart - 4.0, dome + 3.0 - p.z), w), FAT)
        paint(hu, soft(np.maximum(heart, dome + 2.0 - p.z), w), HEART)
    paint(hu, cover(grid, anatomy.place_tubes(chest, great_vessels(chest))), BLOOD)
    gullet = np.array(
        [(200.0, 22.0, 4.0), (60.0, 28.0, 6.0), (0.0, 32.0, 2.0), (-70.0, 30.0, 4.0), (-100.0, 20.0, 14.0)]
    )
    paint(hu, cover(grid, anatomy.place_tubes(chest, Tubes.polyline(gullet, 6.5))), 38.0)


def _lungs(hu: Volume, chest: Chest, grid: Grid, p: Place, mottle: Volume, w: float) -> tuple[Volume, Volume]:
    """Air and fine structure of the lungs, denser towards the back; (cover, depth under the pleura)."""
    right = anatomy.lung_sdf(chest, p.z, p.y, p.x, RIGHT)
    left = anatomy.lung_sdf(chest, p.z, p.y, p.x, LEFT)
    sdf = np.minimum(right, left)
    lungs = soft(sdf, w)
    tissue = chest.density + 0.14 * p.y + 7.0 * mottle + 10.0 * chest.grain.on(*grid.axes)
    # Fissures: planes that fall forward, one a side, and the level one on the right.
    for side, sheet in ((RIGHT, p.z + 20.0 + 1.05 * p.y), (LEFT, p.z + 12.0 + 1.10 * p.y)):
        line = np.clip(1.0 - np.abs(sheet + 4.0 * mottle) / (1.45 * w), 0.0, 1.0) * (side * p.x > 0)
        tissue += min(1.0, 0.9 / w) * 420.0 * line
    paint(hu, lungs, tissue)
    return lungs, -sdf


def _tubes(hu: Volume, chest: Chest, grid: Grid, vessels: Tubes, airways: Tubes, lungs: Volume) -> None:
    """Vessels, airway walls and the air in airways."""
    blood = cover(grid, anatomy.place_tubes(chest, vessels))
    paint(hu, blood * np.maximum(lungs, hu < -30), 40.0)
    ways = anatomy.place_tubes(chest, airways)
    wall, lumen = cover(grid, ways, 1.3), cover(grid, ways)
    paint(hu, wall * (1.0 - 0.35 * lungs), 20.0)
    paint(hu, lumen, -985.0)


def _bones(hu: Volume, chest: Chest, grid: Grid, p: Place, under_skin: Volume) -> None:
    """Vertebrae with discs and arches, sternum, ribs with cartilage, shoulder girdle."""
    w = grid.width
    set_in: Callable[[Volume, Volume | float], None] = lambda cover, value: paint(hu, cover * under_skin, value)
    y0, x0 = anatomy.spine_line(chest, p.z)
    dy, dx = p.y - y0, p.x - x0
    body = np.sqrt((dy / 0.86) ** 2 + dx**2) - 17.5 + 0.25 * np.clip(np.abs(dx), 0, 6)
    level = (p.z / 23.5 + np.float32(chest.disc_phase)) % 1.0
    disc = np.clip((np.abs(level - 0.5) * 23.5 - 8.6) / np.float32(max(grid.spacing[0], 1.0)) + 0.5, 0, 1)
    trim = 1.6 * np.cos(2 * np.pi * (level - 0.5))
    set_in(soft(body + 1.0 + trim, w), DISC * disc + (1 - disc) * 620.0)
    set_in(soft(body + 3.4 + trim, w) * (1 - disc), MARROW - 80.0)
    arch = np.sqrt((dy - 25.0) ** 2 + dx**2)
    ring = np.maximum(np.abs(arch - 11.5) - 3.0, 8.0 - dy)
    spinous = np.maximum(np.abs(dx) - 3.2, np.abs(dy - 42.0) - 9.0)
    wing = np.maximum(np.abs(dy - 22.0 - 0.25 * np.abs(dx)) - 4.0, np.abs(np.abs(dx) - 20.0) - 12.0)
    posterior = np.minimum(np.minimum(ring, spinous), wing + 9.0 * np.abs(level - 0.5))
    set_in(soft(posterior, w), 520.0 - 260.0 * np.abs(level - 0.5))
    set_in(soft(arch - 8.2, w), CORD)
    front = p.y + 87.0 + 0.06 * np.abs(p.z + 40)
    sternum = np.maximum(np.abs(front) - 5.5, np.abs(p.x) - 15.0 - 8.0 * np.clip((p.z - 20) / 40, 0, 1))
    sternum = np.maximum(sternum, np.maximum(p.z - 62.0, -104.0 - p.z))
    set_in(soft(sternum, w), 480.0)
    set_in(soft(sternum + 2.0, w), MARROW - 140.0)
    bone, cartilage = ribs(chest)
    set_in(cover(grid, anatomy.place_tubes(chest, cartilage)), CARTILAGE)
    hard = anatomy.place_tubes(chest, Tubes.join([bone, shoulder_bones()]))
    set_in(cover(grid, hard), CORTEX)
    set_in(cover(grid, hard, -1.9), MARROW)


def _nodule(hu: Volume, mask: NDArray[np.bool_], nodule: Nodule, grid: Grid, lungs: Volume) -> None:
    """Paint the nodule into the lung; ground glass leaves what it covers visible."""
    box, whole, core, spikes = nodule_cover(nodule, grid)
    if not whole.size:
        return
    here, room = hu[box], lungs[box]
    mask[box] = whole * room >= 0.5
    if nodule.core < 1:
        glass = np.maximum(here, nodule.glass_hu)
        here += whole * room * (glass - here)
    if nodule.core > 0:
        here += np.maximum(core, 0.8 * spikes) * room * (np.maximum(nodule.solid_hu, here) - here)
