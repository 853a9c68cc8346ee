"""MATLAB v5 (v6, v7) cubes: only real numeric arrays are ever loaded, and only those needed.

Wavelengths and bad bands come from vectors beside the cube (`wl`, `wavelength`, ...; `bbl`, 1 = good).
A file of version 7.3 is HDF5 and is refused with a word about it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

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
from gen_hyperspectral.mat_v5 import list_variables, load_variable
from gen_hyperspectral.reader_options import MatReader as Options

HDF5 = b"\x89HDF\r\n\x1a\n"


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
        try:
            numeric = list_variables(path)
            cubes = {name: v.shape for name, v in numeric.items() if len(v.shape) == 3}
            vectors = {n: max(v.shape) for n, v in numeric.items() if max(v.shape) == math.prod(v.shape)}
            name, warnings = choose_variable(path, cubes, variable, vectors, guess)
            beside = [n for n in vectors if n.lower() in WAVELENGTH_NAMES + GOOD_BAND_NAMES + BAD_BAND_NAMES]
            array = load_variable(path, numeric[name])
            vector = {n.lower(): load_variable(path, numeric[n]).ravel() for n in beside}
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
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
