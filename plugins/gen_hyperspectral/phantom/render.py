"""From an eye in millimetres to a hyperspectral picture: fields, masks, layers, blur, motion, light and noise.

Reflectance of a point: media * [surface + macular * vessels * ((1 - disc) (rpe + sclera * deep) + disc * nerve)],
see `optics`; macular pigment and deposits lie behind the surface. Vessels are sampled on a grid twice as fine
where pixels are coarse, all else at the pixels. Bands are rendered in blocks of bounded memory.

Shapes: maps (H, W) float32, volumes (D, H, W) float32 reflectance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from scipy import fft

from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.eye import Eye, Visit
from gen_hyperspectral.phantom.vessel_raster import rasterize
from gen_hyperspectral.phantom.vessel_tree import ARTERY, VEIN, VesselTree

Map = NDArray[np.float32]

MASKS = ("vein", "artery", "onh", "fovea", "valid")
FIELD = 0.97  # diameter of the round field against the shorter side
FOVEA_MM = 0.75  # radius of the mask `fovea`
_FINE_PIXEL_MM = 0.11  # coarser pixels are sampled twice a side
_OPTICS_MM = 0.022  # sd of the blur by eye and lens
_SENSOR_PIXELS = 0.40  # sd of the blur by the sensor
_MOTION_MM = 0.05  # sd of the drift over a whole scan of the bands
_READ, _SHOT = 0.010, 0.020  # noise as share of the reference white: sd^2 = read^2 + shot^2 * signal
_NOISE_MM = 10.0  # half side of the square on which the lattices of smooth noise live
_REFLEX = {ARTERY: 0.35, VEIN: 0.12}  # the stripe of light along a vessel, brighter on arteries
_BLOCK = 1 << 21  # elements of a block of bands


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


# Lattice (y, x) in mm and width of the ribbons, of two layers of choroidal vessels.
_CHOROID = ((0.75, 1.25, 0.40), (0.95, 0.70, 0.30))


def reflectance(eye: Eye, f: Fields, nm: NDArray[np.float64]) -> Map:
    """Noise-free reflectance before the camera's optics (D, H, W), evenly lit."""
    column = lambda a: np.asarray(a, np.float32)[:, None]
    flat = lambda m: m.reshape(1, -1)
    H, W = f.disc.shape
    ln10 = np.log(10.0)
    vessels = column(-optics.vessel_density(nm, 1.0, eye.artery_saturation)) * flat(f.artery_cm)
    vessels -= column(optics.vessel_density(nm, 1.0, eye.vein_saturation)) * flat(f.vein_cm)
    np.exp(vessels, out=vessels)
    vessels = pool(vessels.reshape(len(nm), H * f.factor, W * f.factor), f.factor).reshape(len(nm), -1)

    R = column(-2 * optics.blood_absorption(nm, optics.CHOROID_SATURATION)) * flat(f.choroid_cm)
    R -= column(2 * ln10 * optics.melanin_density(nm)) * flat(f.melanin)
    np.exp(R, out=R)
    R *= np.float32(eye.sclera)
    R += flat(f.rpe)
    R *= flat(1 - f.disc)
    rim = optics.disc_reflectance(nm, eye.nerve, eye.lamina, 0.1 * eye.disc_capillary_mm)
    cup = optics.disc_reflectance(nm, eye.nerve, eye.lamina, 0.05 * eye.disc_capillary_mm)
    R += column(rim) * flat(f.disc)
    R += column(cup - rim) * flat(f.disc * f.cup)
    R *= vessels
    stained = optics.macular_density(nm) > 1e-4  # the pigment is gone beyond 580 nm
    R[stained] *= np.exp(column(-2 * ln10 * optics.macular_density(nm[stained])) * flat(f.macular))
    if f.deposits is not None:
        R *= np.exp(column(-optics.deposit_density(nm)) * flat(f.deposits))
    R += flat(f.surface)
    R *= column(optics.media_transmittance(nm, eye.age))
    return R.reshape(len(nm), H, W)


def picture(eye: Eye, visit: Visit, f: Fields, nm: NDArray[np.float64], fov_mm: float, noise: float) -> Iterator[Map]:
    """Blocks (some D, H, W) of the camera's picture in reflectance, outside the round field 0, never negative."""
    H, W = f.masks["valid"].shape
    y = ((np.arange(H) + 0.5) - H / 2) * f.pixel_mm / (fov_mm / 2)
    x = ((np.arange(W) + 0.5) - W / 2) * f.pixel_mm / (fov_mm / 2)
    r2 = x**2 + y[:, None] ** 2
    light = (1 - visit.vignette * np.minimum(r2, 1.0)) * (1 + visit.tilt[0] * x) * (1 + visit.tilt[1] * y[:, None])
    light = (visit.gain * light * f.masks["valid"]).astype(np.float32)
    g = np.random.default_rng(visit.noise_seed)
    shift = np.cumsum(g.normal(0.0, _MOTION_MM / np.sqrt(len(nm)), (len(nm), 2)), 0)
    shift -= shift.mean(0)
    white = optics.reference_white(nm).astype(np.float32)[:, None, None]
    step = max(1, _BLOCK // f.artery_cm.size)
    for k in range(0, len(nm), step):
        of = slice(k, k + step)
        R = _blur(reflectance(eye, f, nm[of]), f.pixel_mm, shift[of])
        R *= light
        if noise > 0:
            sd = np.sqrt(_READ**2 + _SHOT**2 * np.maximum(R / white[of], 0)) * white[of]
            R += np.float32(noise) * sd * g.standard_normal(R.shape, dtype=np.float32) * f.masks["valid"]
        yield np.maximum(R, 0, out=R)


def _blur(R: Map, px: float, shift_mm: NDArray[np.float64]) -> Map:
    """Gaussian blur of eye and sensor, and the band's displacement (D, 2) in mm (x, y), in the Fourier domain."""
    H, W = R.shape[1:]
    v = fft.fftfreq(H).astype(np.float32)[:, None]
    u = fft.rfftfreq(W).astype(np.float32)
    sd = np.hypot(_OPTICS_MM / px, _SENSOR_PIXELS)
    s = (shift_mm / px).astype(np.float32)
    along_x = np.exp(-2 * (np.pi * sd * u) ** 2 - 2j * np.pi * s[:, :1] * u).astype(np.complex64)
    along_y = np.exp(-2 * (np.pi * sd * v) ** 2 - 2j * np.pi * s[:, 1] * v).astype(np.complex64)
    spectrum = fft.rfft2(R, axes=(1, 2))
    spectrum *= along_x[:, None, :]
    spectrum *= along_y.T[:, :, None]
    return fft.irfft2(spectrum, s=(H, W), axes=(1, 2))


def soft(r: NDArray, edge: float, width: float) -> NDArray:
    """1 inside, 0 outside, a logistic of `width` between."""
    return 1 / (1 + np.exp(np.clip((r - edge) / width, -40, 40)))


def pool(m: NDArray, factor: int) -> NDArray:
    """Average over factor x factor fine pixels of the last two axes."""
    if factor == 1:
        return m
    *lead, rows, cols = m.shape
    m = m.reshape(*lead, rows // factor, factor, cols // factor, factor)
    return 0.25 * (m[..., 0, :, 0] + m[..., 0, :, 1] + m[..., 1, :, 0] + m[..., 1, :, 1])


def smooth_noise(g: np.random.Generator, y: NDArray, x: NDArray, step_y: float, step_x: float) -> Map:
    """Smooth noise of about unit variance at the grid (y, x) in mm: cubic B-splines on a lattice of normal numbers.

    The lattice lies in mm, so that any image samples the same function.
    """
    ny, nx = int(2 * _NOISE_MM / step_y) + 4, int(2 * _NOISE_MM / step_x) + 4
    c = g.standard_normal((ny, nx), dtype=np.float32)
    (iy, wy), (ix, wx) = _spline(y, step_y), _spline(x, step_x)
    rows = sum(wy[k][:, None] * c[iy + k] for k in range(4))
    columns = np.ascontiguousarray(rows.T)
    return np.ascontiguousarray(sum(wx[k][:, None] * columns[ix + k] for k in range(4)).T) / np.float32(0.479)


def _spline(t: NDArray, step: float) -> tuple[NDArray[np.int64], Map]:
    """First lattice index (n,) and weights (4, n) of the cubic B-spline at t."""
    u = (np.clip(t, -_NOISE_MM, _NOISE_MM) + _NOISE_MM) / step
    i = u.astype(int)
    f = u - i
    w = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    return i, w.astype(np.float32)
