"""MATLAB cubes: only real numeric arrays are ever loaded, and only those needed.

Wavelengths and bad bands come from vectors beside the cube (`wl`, `wavelength`, ...; `bbl`, 1 = good).
A file of version 7.3 is HDF5 and read as such; versions 5 to 7 are parsed by the house itself.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.containers.hdf5.arrays import SIGNATURE
from gen_hyperspectral.containers.hdf5.reader import open_mat73
from gen_hyperspectral.containers.mat.v5 import list_variables, load_variable
from gen_hyperspectral.cubes.facts import VECTOR_NAMES, Facts, assemble
from gen_hyperspectral.cubes.layout import choose_variable
from gen_hyperspectral.reader_options import MatReader as Options

USER_BLOCK = 512  # bytes of MATLAB's own header in front of the HDF5 of version 7.3


def build(options: Options, context: Any = None) -> Reader:
    """The reader of MATLAB files."""
    return MatCubes(options)


class MatCubes(Reader):
    """Opens MATLAB v5 and v7.3 files."""

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
        try:
            if _is_hdf5(path):
                return open_mat73(path, variable, guess, self.options.axes)
            numeric = list_variables(path)
            cubes = {name: v.shape for name, v in numeric.items() if len(v.shape) == 3}
            vectors = {n: max(v.shape) for n, v in numeric.items() if max(v.shape) == math.prod(v.shape)}
            name, warnings = choose_variable(path, cubes, variable, vectors, guess)
            facts = Facts(where="variable", warnings=warnings)
            facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
            array = load_variable(path, numeric[name])
            beside = [n for n in vectors if n.lower() in VECTOR_NAMES]
            facts.vectors = {n.lower(): load_variable(path, numeric[n]).ravel() for n in beside}
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        return assemble(path, array, facts, self.options.axes)


def _is_hdf5(path: Path) -> bool:
    """Whether a file is of version 7.3. Raises: DataError when it is of no version that is read."""
    with path.open("rb") as file:
        head = file.read(USER_BLOCK + len(SIGNATURE))
    if head[:10] == b"MATLAB 7.3" or head[:8] == SIGNATURE or head[USER_BLOCK:] == SIGNATURE:
        return True
    if head[:10] != b"MATLAB 5.0" or len(head) < 128:
        raise DataError(f"{path}: not a MATLAB v5 file (empty, damaged, or version 4: save it with save(..., '-v7'))")
    return False
