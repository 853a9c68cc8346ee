"""The anatomy of an eye, sampled on the pixels of a picture: maps that do not depend on wavelength, and masks.

Vessels are sampled on a grid twice as fine where pixels are coarse, all else at the pixels.

Shapes: maps (H, W) float32.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.eye import Eye
from gen_hyperspectral.phantom.maps import Map, pool, smooth_noise, soft
from gen_hyperspectral.phantom.vessel_raster import rasterize
from gen_hyperspectral.phantom.vessel_tree import ARTERY, VEIN, VesselTree

MASKS = ("vein", "artery", "onh", "fovea", "valid")
FIELD = 0.97  # diameter of the round field against the shorter side
FOVEA_MM = 0.75  # radius of the mask `fovea`
_FINE_PIXEL_MM = 0.11  # coarser pixels are sampled twice a side
_REFLEX = {ARTERY: 0.35, VEIN: 0.12}  # the stripe of light along a vessel, brighter on arteries
# Lattice (y, x) in mm and width of the ribbons, of two layers of choroidal vessels.
_CHOROID = ((0.75, 1.25, 0.40), (0.95, 0.70, 0.30))


@frozen(eq=False)
class Fields:
    """What does not depend on wavelength: maps (H, W) float32, those of vessels (H factor, W factor)."""

    factor: int  # fine pixels a pixel, each way
    pixel_mm: float
    artery_cm: Map  # blood path, on the fine grid
    vein_cm: Map
    choroid_cm: Map
    melanin: Map
    macular: Map
    surface: Map
    rpe: Map
    disc: Map
    cup: Map
    masks: dict[str, NDArray[np.bool_]]
    deposits: Map | None = None  # natural density at 450 nm, both ways together; negative where there is less haze


def pixel_mm(size: tuple[int, int], fov_mm: float) -> float:
    """Side of a (square) pixel: the field of view spans the shorter side."""
    return fov_mm / min(size)


def fields(eye: Eye, tree: VesselTree, noise_seed: int, size: tuple[int, int], fov_mm: float) -> Fields:
    """Sample the anatomy of `eye` on an image of `size` (H, W)."""
    H, W = size
    px = pixel_mm(size, fov_mm)
    factor = 2 if px > _FINE_PIXEL_MM else 1
    y = ((np.arange(H) + 0.5) - H / 2) * px
    x = ((np.arange(W) + 0.5) - W / 2) * px
    dx, dy = np.float32(x - eye.disc[0]), np.float32(y - eye.disc[1])
    fx, fy = np.float32(x - eye.fovea[0]), np.float32(y - eye.fovea[1])

    a, b = eye.disc_radii
    rho = np.hypot(dx / a, dy[:, None] / b)  # 1 at the rim of the disc
    disc = soft(rho, 1.0, 0.035)
    cup = soft(np.hypot((dx - 0.06) / a, dy[:, None] / b), eye.cup_ratio, 0.085)
    to_fovea2 = fx**2 + fy[:, None] ** 2

    g = np.random.default_rng([noise_seed, eye.subject, 0, 2])
    # Large choroidal vessels: ribbons along the zero lines of two smooth noises, drawn out towards the equator.
    ribbons = [np.exp(-((smooth_noise(g, y, x, sy, sx) / width) ** 2)) for sy, sx, width in _CHOROID]
    choroid_vessels = np.maximum(*ribbons)
    slow = smooth_noise(g, y, x, 2.6, 2.6)
    grain = smooth_noise(g, y, x, 0.42, 0.42)
    # Atrophy around the disc and a crescent of pigment: the melanin falls near the rim.
    beta = np.exp(-((np.clip(rho - 1.0, 0, None) / 0.12) ** 2))
    choroid = eye.choroid_mm * (1 + 0.10 * slow) + eye.choroid_vessel_mm * choroid_vessels
    melanin = (
        eye.melanin
        * (1 + 0.07 * slow + 0.025 * grain + 0.28 * np.exp(-to_fovea2 / 0.85**2) - 0.15 * beta)
        * (1 + optics.MELANIN_OVER_VESSELS * choroid_vessels)
    )
    # Nerve fibres shine along the arcades, at an arc around the fovea; the foveola has none.
    r_fovea = np.sqrt(to_fovea2)
    sheen = 1 + 0.55 * np.exp(-(((r_fovea - 2.3) / 1.0) ** 2)) + 0.10 * grain
    fine = (H * factor, W * factor)
    vessels = {k: rasterize(tree, k, fine, px / factor, factor, r) for k, r in _REFLEX.items()}
    # Nerve fibres cover the vessels on the disc in part; cm.
    path = {k: v[0] * np.repeat(np.repeat(0.1 * (1 - 0.65 * disc), factor, 0), factor, 1) for k, v in vessels.items()}

    valid = np.hypot(x, y[:, None]) < FIELD * fov_mm / 2
    onh = (disc > 0.5) & valid
    cover = {k: pool(v[1].astype(np.float32), factor) for k, v in vessels.items()}
    vein = (cover[VEIN] >= 0.5) & (cover[VEIN] >= cover[ARTERY]) & valid & ~onh
    artery = (cover[ARTERY] >= 0.5) & ~vein & valid & ~onh
    fovea = (r_fovea < FOVEA_MM) & valid & ~vein & ~artery & ~onh
    f32 = lambda m: np.ascontiguousarray(m, np.float32)
    return Fields(
        factor=factor,
        pixel_mm=px,
        artery_cm=f32(path[ARTERY]),
        vein_cm=f32(path[VEIN]),
        choroid_cm=f32(0.1 * choroid),
        melanin=f32(melanin),
        macular=f32(eye.macular * np.exp(-to_fovea2 / 0.80**2)),
        surface=f32(eye.surface * sheen),
        rpe=f32(eye.rpe * (1 + 0.05 * slow) * (1 - 0.48 * np.exp(-to_fovea2 / 0.65**2))),
        disc=f32(disc),
        cup=f32(cup),
        masks={"vein": vein, "artery": artery, "onh": onh, "fovea": fovea, "valid": valid},
    )
