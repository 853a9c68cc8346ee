"""From the anatomy of an eye to a hyperspectral picture: layers, blur, motion, light and noise.

Reflectance of a point: media * [surface + macular * vessels * ((1 - disc) (rpe + sclera * deep) + disc * nerve)],
see `optics`; macular pigment and deposits lie behind the surface. Bands are rendered in blocks of bounded memory.

Shapes: maps (H, W) float32, volumes (D, H, W) float32 reflectance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.eye import Eye, Visit
from gen_hyperspectral.phantom.fields import Fields
from gen_hyperspectral.phantom.maps import Map, pool

_OPTICS_MM = 0.022  # sd of the blur by eye and lens
_SENSOR_PIXELS = 0.40  # sd of the blur by the sensor
_MOTION_MM = 0.05  # sd of the drift over a whole scan of the bands
_READ, _SHOT = 0.010, 0.020  # noise as share of the reference white: sd^2 = read^2 + shot^2 * signal
_BLOCK = 1 << 21  # elements of a block of bands


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
