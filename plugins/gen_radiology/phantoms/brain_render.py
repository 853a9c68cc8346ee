"""From a head to its MR picture: shares of each tissue in a voxel, their signals, the coil's shading, noise.

Shapes: (D, H, W) float32; shares (tissues, D, H, W) in [0, 1], summing to at most 1: air and bone give no signal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gen_radiology.phantoms import brain_anatomy as anatomy
from gen_radiology.phantoms.brain_anatomy import Head, Place
from gen_radiology.phantoms.brain_lesions import Lesions
from gen_radiology.phantoms.grid import Grid, Volume, ellipsoid, soft
from gen_radiology.phantoms.tubes import Tubes, cover

TISSUES = ("fat", "muscle", "csf", "grey-matter", "white-matter", "lesion")
FAT, MUSCLE, CSF, GREY, WHITE, LESION = range(len(TISSUES))
BLUR = (0.25, 0.35, 0.35)  # sd of the scanner's blur in voxels, beside the voxel itself

Shares = NDArray[np.float32]


def tissues(head: Head, grid: Grid, lesions: Lesions | None) -> tuple[Shares, dict[str, NDArray[np.bool_]]]:
    """(shares, masks lesion, brain, white-matter, grey-matter, csf) of a head."""
    p, w = anatomy.place(head, grid), grid.width
    cerebrum, cerebellum = anatomy.hull_sdf(p)
    stem = cover(grid, anatomy.place_tubes(head, anatomy.stem()))
    shares = np.zeros((len(TISSUES), *grid.size), np.float32)
    inner = _inner_skull(p, cerebrum, cerebellum)
    _outside(shares, head, grid, p, inner, w)
    _set(shares, soft(inner, w), {})
    _set(shares, soft(inner + 1.0, w), {CSF: 1.0})
    _cerebellum(shares, head, p, cerebellum, w)
    _set(shares, stem, {WHITE: 0.75, GREY: 0.25})
    _cerebrum(shares, head, grid, p, cerebrum, w)
    _deep(shares, head, grid, p, w)
    brain = np.maximum(np.maximum(soft(cerebrum, w), soft(cerebellum, w)), stem) >= 0.5
    if lesions is not None:
        _lesions(shares, lesions, grid)
    inside = inner < 0
    masks = {
        "lesion": shares[LESION] >= 0.5,
        "brain": brain & inside,
        "white-matter": shares[WHITE] >= 0.5,
        "grey-matter": (shares[GREY] >= 0.5) & inside,
        "csf": (shares[CSF] >= 0.5) & inside,
    }
    return shares, masks


def signal(shares: Shares, signals: NDArray[np.float32], shading: Volume | None) -> Volume:
    """Noise-free picture: shares weighted by each tissue's signal, blurred, shaded."""
    picture = np.tensordot(np.float32(signals), shares, 1)
    picture = ndimage.gaussian_filter(picture, BLUR, mode="nearest", truncate=3.0)
    return picture if shading is None else picture * shading


def _set(shares: Shares, cover: Volume, mix: dict[int, float | Volume]) -> None:
    """Replace what is there by a mixture of tissues (their shares; what is missing gives no signal)."""
    shares *= 1.0 - cover
    for tissue, share in mix.items():
        shares[tissue] += cover * share


def _inner_skull(p: Place, cerebrum: Volume, cerebellum: Volume) -> Volume:
    """Signed distance to the inside of the skull: the brain, some CSF around it, the basal cisterns."""
    cisterns = ellipsoid(p.z, p.y, p.x, (-20.0, 8.0, 0.0), (24.0, 34.0, 26.0))
    canal = np.maximum(np.hypot(p.x, p.y - 30.0) - 10.0, p.z + 40.0)
    # A smooth minimum rounds the corners between the lobes, as dura does.
    parts = np.stack([cerebrum - 2.6, cerebellum - 2.2, cisterns])
    k = np.float32(5.0)
    least = parts.min(0)
    joined = least - k * np.log(np.exp(-(parts - least) / k).sum(0)) * np.float32(0.6)
    return np.minimum(joined, canal)


def _outside(shares: Shares, head: Head, grid: Grid, p: Place, inner: Volume, w: float) -> None:
    """Scalp, skull and face."""
    x = np.abs(p.x)
    face = ellipsoid(p.z, p.y, p.x, (-62.0, -36.0, 0.0), (72.0, 60.0, 64.0))
    neck = np.maximum(np.sqrt((p.y - 14.0) ** 2 + p.x**2) - 60.0, p.z + 30.0)
    nose = ellipsoid(p.z, p.y, p.x, (-52.0, -100.0, 0.0), (22.0, 18.0, 11.0))
    vault = inner - head.skull - head.scalp
    outer = np.minimum(np.minimum(vault, face), np.minimum(neck, nose))
    texture = head.texture.on(*grid.axes)
    ears = ellipsoid(p.z, p.y, x, (-22.0, 18.0, 79.0), (26.0, 13.0, 5.0))
    _set(shares, soft(np.minimum(outer, ears), w), {MUSCLE: 0.7})  # skin
    _set(shares, soft(outer + 2.0, w), {FAT: 0.85, MUSCLE: 0.1})
    deep = np.maximum(outer + 6.5, 6.0 - inner)
    temporal = np.maximum(ellipsoid(p.z, p.y, x, (-14.0, -34.0, 66.0), (34.0, 28.0, 9.0)), outer + 3.5)
    streak = np.clip(1.0 - np.abs(texture) / 0.35, 0, 1)
    low = np.maximum(deep, p.z + 30.0)
    _set(shares, soft(np.minimum(low, temporal), w), {MUSCLE: 0.85 - 0.7 * streak, FAT: 0.1 + 0.7 * streak})
    for side in (-1.0, 1.0):
        _set(shares, soft(ellipsoid(p.z, p.y, p.x, (-24.0, -66.0, side * 29.0), (18.0, 24.0, 17.0)), w), {FAT: 0.9})
        nerve = np.array([(-24.0, -70.0, side * 31.0), (-20.0, -38.0, side * 14.0)])
        muscles = [nerve + np.array([(0.0, 0.0, s), (0.0, 0.0, 0.2 * s)]) for s in (-10.0, 10.0)]
        lines = [Tubes.polyline(line, r) for line, r in zip([nerve, *muscles], (2.2, 1.8, 1.8))]
        _set(shares, cover(grid, anatomy.place_tubes(head, Tubes.join(lines))), {MUSCLE: 0.9})
        globe = ellipsoid(p.z, p.y, p.x, (-24.0, -79.0, side * 32.0), (12.0, 12.0, 12.0))
        _set(shares, soft(globe, w), {MUSCLE: 0.6})
        _set(shares, soft(globe + 1.2, w), {CSF: 1.0})
    air = np.minimum(
        ellipsoid(p.z, p.y, p.x, (-50.0, -72.0, 0.0), (22.0, 26.0, 10.0)),
        ellipsoid(p.z, p.y, x, (-56.0, -64.0, 26.0), (15.0, 17.0, 12.0)),
    )
    air = np.minimum(air, ellipsoid(p.z, p.y, x, (-36.0, 26.0, 60.0), (12.0, 14.0, 9.0)))  # mastoid cells
    air = np.minimum(air, ellipsoid(p.z, p.y, x, (-28.0, -38.0, 0.0), (8.0, 10.0, 10.0)))  # sphenoid sinus
    _set(shares, soft(air, w) * (0.75 + 0.25 * np.clip(texture, -1, 1)), {})
    bone = np.maximum(inner - head.skull, -120.0)
    _set(shares, soft(bone, w), {})
    marrow = np.abs(inner - 0.5 * head.skull) - 0.22 * head.skull
    _set(shares, soft(np.maximum(marrow, 0.0 - p.z), w), {FAT: 0.7})


def _cerebrum(shares: Shares, head: Head, grid: Grid, p: Place, hull: Volume, w: float) -> None:
    """Cortex, white matter and the CSF between the folds."""
    near = hull < w
    if not near.any():
        return
    q = p.at(near)
    fold = anatomy.folding(head, grid)
    fold = anatomy.Folding(fold.depth[near], tuple(c[near] for c in fold.curl))
    distance = anatomy.sulci(head, q, fold, -hull[near])
    room = soft(hull[near], w)
    solid = soft(-distance, w)  # not CSF
    white = soft(head.cortex - distance, w)
    values = shares[:, near]
    values *= 1.0 - room
    values[CSF] += room * (1.0 - solid)
    values[GREY] += room * (solid - np.minimum(white, solid))
    values[WHITE] += room * np.minimum(white, solid)
    shares[:, near] = values


def _cerebellum(shares: Shares, head: Head, p: Place, hull: Volume, w: float) -> None:
    """Folia: thin layers of grey around a white tree."""
    near = hull < w
    if not near.any():
        return
    q, depth = p.at(near), -hull[near]
    waves = np.float32(0)
    for kz, ky, kx in np.float32(head.folia):
        waves = waves + np.cos(kz * q.z + ky * q.y + kx * np.abs(q.x) + 7.0 * (kz + ky))
    waves = waves / np.float32(np.sqrt(len(head.folia) / 2))
    core = 9.0 - depth  # below 0 all is white
    white = np.clip(0.5 - np.where(core < 0, core, 0.75 * core - 2.6 * (waves - 0.2)) / 5.0, 0, 1)
    white = np.where(depth < 2.0, 0.0, 0.9 * white)
    grooves = np.clip(waves - 1.1, 0, 1) * np.exp(-np.clip(depth, 0, None) / 5.0)
    room = soft(hull[near], w)
    values = shares[:, near]
    values *= 1.0 - room
    values[CSF] += room * grooves
    values[WHITE] += room * (1 - grooves) * white
    values[GREY] += room * (1 - grooves) * (1 - white)
    shares[:, near] = values


def _deep(shares: Shares, head: Head, grid: Grid, p: Place, w: float) -> None:
    """Callosal body and capsules stay white; the nuclei and the ventricles are set into them."""
    x = np.abs(p.x)
    heart_of = np.maximum(anatomy.ellipse_cc(p) + 1.0, x - 24.0)
    _set(shares, soft(np.maximum(heart_of, -22.0 - p.z), w), {WHITE: 1.0})
    for centre, radii, grey in (
        ((1.0, -3.0, 27.0), (12.0, 19.0, 5.5), 1.0),  # putamen
        ((-1.0, 0.0, 19.5), (8.0, 12.0, 4.0), 0.45),  # pallidum
        ((5.0, 14.0, 11.0), (9.5, 15.5, 9.0), 0.85),  # thalamus
    ):
        _set(shares, soft(ellipsoid(p.z, p.y, x, centre, radii), w), {GREY: grey, WHITE: 1.0 - grey})
    _set(shares, cover(grid, anatomy.place_tubes(head, anatomy.caudates())), {GREY: 1.0})
    v = head.ventricles
    third = ellipsoid(p.z, p.y, p.x, (-2.0, 3.0, 0.0), (11.0, 14.0, 1.6 + 1.6 * v))
    fourth = ellipsoid(p.z, p.y, p.x, (-36.0, 33.0, 0.0), (8.0, 4.0 + 2.0 * v, 7.0))
    septum = np.clip((x - 0.4) / w + 0.5, 0, 1)
    lateral = cover(grid, anatomy.place_tubes(head, anatomy.ventricles(head))) * septum
    _set(shares, np.maximum(lateral, np.maximum(soft(third, w), soft(fourth, w))), {CSF: 1.0})


def _lesions(shares: Shares, lesions: Lesions, grid: Grid) -> None:
    """What was brain in a lesion becomes lesion, sulci too: it pushes them aside."""
    for blob in lesions.blobs:
        box = blob.box(grid)
        part = shares[(slice(None), *box)]
        if not part.size:
            continue
        c = blob.cover(grid.part(box))
        for tissue in (CSF, GREY, WHITE):
            part[LESION] += c * part[tissue]
            part[tissue] *= 1 - c
