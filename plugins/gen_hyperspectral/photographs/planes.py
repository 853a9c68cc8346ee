"""Colour photographs as three planes of grey values in rising wavelength, and where their round field lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.cubes.limits import DENSEST
from gen_hyperspectral.prepare.images import GREY, opened

MOST_PIXELS = 64 << 20  # Pillow itself would warn from 89 million on
FREE_PIXELS = 8 << 20  # however small the file; unpacked, upright and as planes a pixel takes 25 bytes
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def read_photograph(path: Path, grey: str = "refuse") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(planes (3, H, W) float32 in [0, 1]: blue, green, red; opaque pixels (H, W) bool; notes).

    Turned upright as its EXIF orientation says. 16-bit grey keeps its depth; of 16-bit colour Pillow hands on the
    upper 8 bits, and a note says so. grey: "refuse", or "repeat" to make three equal planes.
    Raises: DataError naming the file, for files that cannot be read and for other colour models.
    """
    from PIL import ImageOps  # late: only photographs need it

    notes: list[str] = []
    with opened(path, "photograph") as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{path}: {image.n_frames} pages in one file; expected one photograph")
        if image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in image.tile):  # as stored
            notes.append("16 bits a colour, of which 8 are used")
        _check_pixels(path, *image.size)
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("P", "PA"):
            upright = upright.convert("RGBA" if "transparency" in upright.info or upright.mode == "PA" else "RGB")
        mode, values = upright.mode, np.asarray(upright)
    if mode in ("RGB", "RGBA"):
        of_planes, white = (2, 1, 0), 255.0
    elif mode in GREY:
        if grey == "refuse":
            raise DataError(f'{path}: an image without colour; dataset.grey = "repeat" makes three equal planes of it')
        of_planes, white = (0, 0, 0), GREY[mode]
    else:
        raise DataError(f"{path}: colour model {mode}; convert it to RGB")
    opaque = values[..., -1] >= 128 if mode in ("RGBA", "LA") else np.ones(values.shape[:2], bool)
    values = values.reshape(*values.shape[:2], -1)
    planes = np.empty((3, *values.shape[:2]), np.float32)
    for plane, channel in zip(planes, of_planes):
        plane[...] = values[..., channel]
    planes /= np.float32(white)
    return np.clip(planes, 0.0, 1.0, out=planes), opaque, notes


def photograph_size(path: Path) -> tuple[int, int]:
    """(H, W) as displayed, from the header alone. Raises: DataError naming the file."""
    with opened(path, "photograph") as image:
        w, h = image.size
        turned = image.getexif().get(0x0112, 1) in range(5, 9)  # these EXIF orientations swap the axes
    return (w, h) if turned else (h, w)


def _check_pixels(path: Path, width: int, height: int) -> None:
    pixels, held = width * height, path.stat().st_size
    if pixels > MOST_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels: no photograph of an eye has so many")
    if pixels > FREE_PIXELS and 3 * pixels > DENSEST * held:
        raise DataError(f"{path}: {width} x {height} pixels in {held} bytes: blank or hostile")


def field_of_view(planes: np.ndarray, surround: float) -> np.ndarray:
    """(H, W) bool: the largest connected part whose brightest plane exceeds `surround`, holes filled.

    planes: (3, H, W) in [0, 1]. Dark vessels and the fovea are holes, letters in a corner are other parts.
    """
    from scipy.ndimage import binary_fill_holes, label

    labels, n = label(planes.max(0) > surround)
    if n == 0:
        return np.zeros(planes.shape[1:], bool)
    return binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
