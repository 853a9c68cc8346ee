"""The arrays of a zarr folder, formats 2 and 3: found in its groups, and small ones read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.containers.zarr.chunks import ZarrArray
from gen_hyperspectral.containers.zarr.metadata import array_of

MOST_ARRAYS = 1000
DEEPEST = 8  # folders within folders


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in (".zarray", ".zgroup", "zarr.json"))


def arrays(path: Path) -> dict[str, ZarrArray]:
    """Every array in a folder by its path ("" where the folder itself is one). Raises: DataError naming the file."""
    found: dict[str, ZarrArray] = {}
    folders = [("", path, 0)]
    while folders:
        name, folder, depth = folders.pop(0)
        array = array_of(folder)
        if array is not None:
            found[name] = array
            if len(found) > MOST_ARRAYS:
                raise DataError(f"{path}: more than {MOST_ARRAYS} arrays: no cube")
        elif is_zarr(folder) and depth < DEEPEST:
            inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and p.name.isprintable())
            folders += [(f"{name}/{p.name}".lstrip("/"), p, depth + 1) for p in inside]
    return found


def vector(array: ZarrArray) -> np.ndarray:
    """A small array, whole. Raises: DataError."""
    array.check()
    if len(array.shape) != 1 or array.shape[0] > 1 << 20:
        raise DataError(f"{array.path}: shape {list(array.shape)} is no list of bands")
    out = np.empty(array.shape, array.dtype)
    step = array.chunk[0]
    with array.opened() as load:
        for i in range(-(-len(out) // step)):
            part = out[i * step : (i + 1) * step]
            part[...] = load((i,))[: len(part)]
    return out
