"""MATLAB v5 (v6, v7) cubes through scipy; only numeric arrays are ever loaded, and only those needed.

Wavelengths and bad bands come from vectors beside the cube (`wl`, `wavelength`, ...; `bbl`, 1 = good).
A file of version 7.3 is HDF5 and is refused with a word about it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.layout import (
    BAD_BAND_NAMES,
    GOOD_BAND_NAMES,
    WAVELENGTH_NAMES,
    as_yxb,
    bad_bands_of,
    choose_variable,
    stored_axes,
    wavelengths_of,
)
from gen_hyperspectral.reader_options import MatReader as Options

ITEM_BYTES = {
    "double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2,
    "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "logical": 1,
}  # fmt: skip
HDF5 = b"\x89HDF\r\n\x1a\n"
DEFLATE_LIMIT = 1032  # deflate cannot expand further than this: a larger promise is a lie
PACKING = 8  # MATLAB stores a double array of small whole numbers as bytes


def build(options: Options, context: Any = None) -> Reader:
    """The reader of MATLAB files."""
    return MatCubes(options)


class MatCubes(Reader):
    """Opens MATLAB v5 files."""

    version = 1

    def __init__(self, options: Options):
        self.options = options

    def recognizes(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            with path.open("rb") as file:
                return path.suffix.lower() == ".mat" or file.read(10) in (b"MATLAB 5.0", b"MATLAB 7.3")
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        return [path]

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band). variable: which array, when several fit. Raises: DataError."""
        _check_version(path)
        import scipy.io  # late: half a second that other formats need not pay

        try:
            listing = scipy.io.whosmat(str(path))
        except Exception as error:  # scipy raises many kinds for damaged files
            raise DataError(f"{path}: damaged MATLAB file: {_line(error)}") from None
        numeric = {name: tuple(shape) for name, shape, kind in listing if kind in ITEM_BYTES}
        kinds = {name: kind for name, _, kind in listing}
        cubes = {name: shape for name, shape in numeric.items() if len(shape) == 3 and math.prod(shape) > 0}
        vectors = {n: max(s) for n, s in numeric.items() if len(s) <= 2 and max(s, default=0) == math.prod(s) > 0}
        name, warnings = choose_variable(path, cubes, variable, vectors, guess)
        need = math.prod(cubes[name]) * ITEM_BYTES[kinds[name]]
        if need > path.stat().st_size * DEFLATE_LIMIT * PACKING:
            raise DataError(f"{path}: variable '{name}' promises {need} bytes, more than the file can hold")
        beside = [n for n in vectors if n.lower() in WAVELENGTH_NAMES + GOOD_BAND_NAMES + BAD_BAND_NAMES]
        try:
            loaded = scipy.io.loadmat(str(path), variable_names=[name, *beside])
            array = loaded[name]
            vector = {n.lower(): np.asarray(loaded[n]).ravel() for n in beside}
        except Exception as error:
            raise DataError(f"{path}: variable '{name}' cannot be read: {_line(error)}") from None
        if array.ndim != 3 or array.dtype.kind not in "buif":
            raise DataError(
                f"{path}: variable '{name}' is {array.dtype} {list(array.shape)}, expected a real 3-D array"
            )
        key = next((k for k in WAVELENGTH_NAMES if k in vector), None)
        values = None if key is None else vector[key]
        meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
        axes, told = stored_axes(array.shape, self.options.axes, None if values is None else len(values))
        array = as_yxb(array, axes)
        meta["stored_axes"] = axes
        n = array.shape[2]
        units = "nm" if key is not None and key.endswith("_nm") else None
        wavelength, more = wavelengths_of(n, values, units, f"variable '{key}'")
        bad, bad_told = None, []
        for flag, good in [(k, True) for k in GOOD_BAND_NAMES] + [(k, False) for k in BAD_BAND_NAMES]:
            if flag in vector and bad is None:
                bad, bad_told = bad_bands_of(n, vector[flag], good, f"variable '{flag}'")
        return RawVolume(array, "yxb", wavelength, bad, None, warnings + told + more + bad_told, meta)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _check_version(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if head[:10] == b"MATLAB 7.3" or head[:8] == HDF5 or head[512:] == HDF5:
        raise DataError(f"{path}: MATLAB v7.3 (HDF5) is not read yet; save it with save(..., '-v7')")
    if head[:10] != b"MATLAB 5.0" or len(head) < 128:
        raise DataError(f"{path}: not a MATLAB v5 file (empty, damaged, or version 4: save it with save(..., '-v7'))")
