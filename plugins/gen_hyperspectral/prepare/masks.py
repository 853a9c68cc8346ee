"""Masks that lie beside the cubes: .npy arrays or images, as large as the cube."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.names import stem_of


def mask_path(cube: Path, pattern: str) -> Path:
    """The file a pattern such as "{stem}_vein.png" names for a cube."""
    return cube.parent / pattern.replace("{stem}", stem_of(cube))


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The mask (Y, X) bool: everything above half of the largest possible value is inside, .npy: non-zero.

    Raises: DataError naming the file.
    """
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False) != 0
        else:
            import matplotlib.image  # late: only image masks need it

            array = np.asarray(matplotlib.image.imread(path))
            if array.dtype == np.uint8:
                array = array / 255.0
            if array.ndim == 3:
                array = array[..., :3].max(axis=2) if array.shape[2] >= 3 else array[..., 0]
            array = array > 0.5
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: mask cannot be read: {one_line(error)}") from None
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.shape != tuple(size):
        raise DataError(f"{path}: mask is {list(array.shape)}, its cube {list(size)} (dataset.masks)")
    return array
