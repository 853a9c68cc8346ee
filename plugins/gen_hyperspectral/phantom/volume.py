"""One volume of the retina phantom: an eye and a visit, rendered and scaled to [-1, 1], with its true parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import asdict, evolve
from numpy.typing import NDArray

from gen_core.volume import Scale
from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposits import LABEL, deposit_map, draw_deposits
from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels, draw_visit
from gen_hyperspectral.phantom.fields import MASKS, fields, pixel_mm
from gen_hyperspectral.phantom.render import picture

VERSION = 1  # of the picture: raise it when a volume would come out differently
DEFAULT_SIZE = (16, 64, 64)
_GREEN_NM = 555.0  # the band of a phantom with one band: vessels show best there


def default_wavelengths(depth: int) -> tuple[float, ...]:
    """`depth` bands equally spaced from 450 to 900 nm; a single band is 555 nm."""
    return (_GREEN_NM,) if depth == 1 else tuple(float(v) for v in np.linspace(450.0, 900.0, depth))


def calibration(nm: tuple[float, ...]) -> Scale:
    """The fixed scale: reflectance 0 -> -1, the reference white of each band -> +1; depends on nm alone."""
    hi = optics.reference_white(nm).astype(np.float32).reshape(1, -1, 1, 1)
    return Scale(np.zeros_like(hi), hi)


def render(
    options: RetinaPhantom,
    size: tuple[int, int, int],
    nm: tuple[float, ...],
    subject: int,
    visit: int = 0,
    present: bool | None = None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
    """(x (1, D, H, W) float32 in [-1, 1], masks name -> (1, H, W)) of one volume.

    present: the same eye, light and noise with or without its deposits, whatever label it drew.
    """
    eye = draw_eye(options.seed, subject)
    tree = draw_vessels(options.seed, eye, options.vessel_scale)
    maps = fields(eye, tree, options.seed, size[1:], options.fov_mm)
    deposits = draw_deposits(options, subject, present)
    if deposits is not None:
        maps = evolve(maps, deposits=deposits.amount * deposit_map(options, subject, maps))
    scene = draw_visit(options.seed, subject, visit)
    x = np.empty((1, *size), np.float32)
    scale, k, bands = calibration(nm), 0, np.array(nm)
    for block in picture(eye, scene, maps, bands, options.fov_mm, options.noise):
        of = slice(k, k + len(block))
        block *= 2.0 / scale.hi[0, of]
        block -= 1.0
        np.clip(block[:, :, ::-1] if eye.mirrored else block, -1.0, 1.0, out=x[0, of])
        k += len(block)
    turn = (lambda m: m[:, ::-1]) if eye.mirrored else (lambda m: m)
    return x, {name: np.ascontiguousarray(turn(maps.masks[name]))[None] for name in MASKS}


def describe(options: RetinaPhantom, subject: int, size: tuple[int, int, int] = DEFAULT_SIZE) -> dict[str, Any]:
    """The true parameters of an eye: those of `Eye` as drawn (mm, before mirroring) and its places in the picture.

    Where the data set has deposits, `deposits` holds those of this eye.

    Pixels are (row, column) in units of pixels from the upper left corner, after mirroring: `disc_px`, `fovea_px`.
    """
    eye = draw_eye(options.seed, subject)
    px = pixel_mm(size[1:], options.fov_mm)

    def place(p: tuple[float, float]) -> tuple[float, float]:
        x = -p[0] if eye.mirrored else p[0]
        return p[1] / px + size[1] / 2, x / px + size[2] / 2

    deposits = draw_deposits(options, subject)
    return {
        **eye.to_json(),
        **({LABEL: asdict(deposits)} if deposits is not None else {}),
        "pixel_mm": px,
        "disc_px": place(eye.disc),
        "fovea_px": place(eye.fovea),
        "disc_radii_px": (eye.disc_radii[1] / px, eye.disc_radii[0] / px),
    }
