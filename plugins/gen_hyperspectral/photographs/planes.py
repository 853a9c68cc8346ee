"""Colour photographs as three planes of grey values in rising wavelength, and where their round field lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.cubes.layout import one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
GREY = {"1": 1.0, "L": 255.0, "LA": 255.0, "I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}
"""Pillow's modes of images without colour -> their white. Pillow widens some 16-bit files to "I"."""


def read_photograph(path: Path, grey: str = "refuse") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(planes (3, H, W) float32 in [0, 1]: blue, green, red; opaque pixels (H, W) bool; notes).

    Turned upright as its EXIF orientation says. 16-bit grey keeps its depth; of 16-bit colour Pillow hands on the
    upper 8 bits, and a note says so. grey: "refuse", or "repeat" to make three equal planes.
    Raises: DataError naming the file, for files that cannot be read and for other colour models.
    """
    from PIL import Image, ImageOps  # late: only photographs need it

    notes: list[str] = []
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path}: {image.n_frames} pages in one file; expected one photograph")
            if image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in image.tile):  # as stored
                notes.append("16 bits a colour, of which 8 are used")
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode in ("P", "PA"):
                image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
            mode, values = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: photograph cannot be read: {one_line(error)}") from None
    if mode in ("RGB", "RGBA"):
        planes, white = values[..., 2::-1], 255.0
    elif mode in GREY:
        if grey == "refuse":
            raise DataError(f'{path}: an image without colour; dataset.grey = "repeat" makes three equal planes of it')
        planes, white = np.repeat(values.reshape(*values.shape[:2], -1)[..., :1], 3, 2), GREY[mode]
    else:
        raise DataError(f"{path}: colour model {mode}; convert it to RGB")
    opaque = values[..., -1] >= 128 if mode in ("RGBA", "LA") else np.ones(values.shape[:2], bool)
    planes = np.ascontiguousarray(planes.astype(np.float32).transpose(2, 0, 1)) / np.float32(white)
    return np.clip(planes, 0.0, 1.0), opaque, notes


def photograph_size(path: Path) -> tuple[int, int]:
    """(H, W) as displayed, from the header alone. Raises: DataError naming the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            w, h = image.size
            turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap the axes
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: photograph cannot be read: {one_line(error)}") from None
    return (w, h) if turned else (h, w)


def field_of_view(planes: np.ndarray, surround: float) -> np.ndarray:
    """(H, W) bool: the largest connected part whose brightest plane exceeds `surround`, holes filled.

    planes: (3, H, W) in [0, 1]. Dark vessels and the fovea are holes, letters in a corner are other parts.
    """
    from scipy.ndimage import binary_fill_holes, label

    labels, n = label(planes.max(0) > surround)
    if n == 0:
        return np.zeros(planes.shape[1:], bool)
    return binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
