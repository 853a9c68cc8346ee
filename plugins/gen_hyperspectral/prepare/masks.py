"""Masks that lie beside the cubes: .npy arrays or images, as large as the cube."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from gen_core.errors import DataError
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.names import stem_of
from gen_hyperspectral.prepare.images import GREY, opened


def mask_path(cube: Path, pattern: str) -> Path:
    """The file a pattern such as "{stem}_vein.png" names for a cube."""
    return cube.parent / pattern.replace("{stem}", stem_of(cube))


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The mask (Y, X) bool: everything above half of the largest possible value is inside, .npy: non-zero.

    Raises: DataError naming the file.
    """
    if path.suffix.lower() == ".npy":
        return _array(path, size) != 0
    with opened(path, "mask") as image:
        _check_size(path, image.size[::-1], size)
        grey = image.mode in GREY or image.mode == "F"
        values = np.asarray(image if grey else image.convert("RGB"))
        white = GREY.get(image.mode, 1.0) if grey else 255.0
    if values.ndim == 3:
        values = values[..., 0] if grey else values.max(axis=2)
    return values > white / 2


def _array(path: Path, size: tuple[int, int]) -> np.ndarray:
    try:
        array = open_memmap(path, mode="r")  # of nothing but a .npy file, and of no more than it holds
    except Exception as error:  # a damaged header raises ValueError, EOFError, SyntaxError, TokenError, ...
        raise DataError(f"{path}: mask cannot be read: {one_line(error) or type(error).__name__}") from None
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: mask holds {array.dtype}, which is not a real number type")
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    _check_size(path, array.shape, size)
    return array


def _check_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(found) != tuple(size):
        raise DataError(f"{path}: mask is {list(found)}, its cube {list(size)} (dataset.masks)")
