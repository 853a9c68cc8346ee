"""HDF5 cubes (.h5, .hdf5, netCDF-4): any 3-D array of real numbers, contiguous, chunked or packed.

`dataset.variable` names the array by its path in the file when several fit. Wavelengths are looked for in the
attributes of the array and of the groups around it, then in a one-dimensional array by name, the nearest first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.cube_facts import VECTOR_NAMES, Facts, assemble, axes_by_dimensions
from gen_hyperspectral.hdf5_arrays import SIGNATURE, arrays, attributes, cube_array, opened, vector
from gen_hyperspectral.layout import choose_variable
from gen_hyperspectral.reader_options import Hdf5Reader as Options
from gen_hyperspectral.wavelengths import find_sidecar

SUFFIXES = (".h5", ".hdf5", ".he5", ".nc", ".nc4")
MASKS = "masks/"  # the group in which masks lie beside a cube; they are none


def build(options: Options, context: Any = None) -> Reader:
    """The reader of HDF5 files."""
    return Hdf5Cubes(options)


class Hdf5Cubes(Reader):
    """Opens HDF5; `version` enters cache keys."""

    version = 1

    def __init__(self, options: Options):
        self.options = options

    def recognizes(self, path: Path) -> bool:
        try:
            if not path.is_file() or path.suffix.lower() == ".mat":
                return False
            if path.suffix.lower() in SUFFIXES[:3]:
                return True
            with path.open("rb") as file:
                return file.read(len(SIGNATURE)) == SIGNATURE
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        """The file and its sidecar, if any."""
        sidecar = find_sidecar(path)
        return [path] if sidecar is None else [path, sidecar]

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band). variable: path of the array in the file. Raises: DataError."""
        with opened(path) as file:
            found = arrays(file)
            real = {name: item for name, item in found.items() if item.dtype.kind in "buif" and item.shape}
            cubes = {n: i.shape for n, i in real.items() if len(i.shape) == 3 and not n.startswith(MASKS)}
            flat = {n: max(i.shape) for n, i in real.items() if max(i.shape) == i.size and i.size}
            wanted = variable.strip("/") if variable else None
            name, warnings = choose_variable(path, cubes, wanted, {_leaf(n): size for n, size in flat.items()}, guess)
            item = real[name]
            facts = Facts(where="attribute", warnings=warnings, sidecar=find_sidecar(path))
            facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
            facts.heed(attributes(item))
            scales = [dim[0].name if len(dim) else dim.label for dim in item.dims]
            facts.axes = facts.axes or axes_by_dimensions(_leaf(s) for s in scales)
            for n in sorted(flat, key=lambda n: (-_shared(n, name), n.count("/"), n)):
                if _leaf(n) in VECTOR_NAMES and _leaf(n) not in facts.vectors and flat[n] in item.shape:
                    facts.vectors[_leaf(n)] = vector(path, n, real[n])
                    told = {k.lower(): v for k, v in attributes(real[n]).items()}.get("units")
                    if "wa" in _leaf(n) and isinstance(told, str):
                        facts.wavelength_units = facts.wavelength_units or told
            group = name
            while group:
                group = group.rpartition("/")[0]
                facts.heed(attributes(file[group] if group else file))
            array = cube_array(path, file, name)
        return assemble(path, array, facts, self.options.axes)


def _leaf(name: str) -> str:
    return str(name).rpartition("/")[2].lower()


def _shared(a: str, b: str) -> int:
    """How many groups two paths have in common, from the root."""
    count = 0
    for x, y in zip(a.split("/")[:-1], b.split("/")[:-1]):
        if x != y:
            break
        count += 1
    return count


def open_mat73(path: Path, variable: str | None, guess: bool, axes: str) -> RawVolume:
    """The cube of a MATLAB v7.3 file: HDF5 whose axes lie in reverse, with variables of MATLAB classes.

    Raises: DataError naming the file.
    """
    with opened(path) as file:
        real = {}
        for name, item in arrays(file).items():
            kind = attributes(item).get("MATLAB_class")
            if "/" not in name and item.dtype.kind in "uif" and item.shape and kind not in ("char", "cell", "logical"):
                real[name] = item
        cubes = {n: i.shape[::-1] for n, i in real.items() if len(i.shape) == 3}
        flat = {n: i.size for n, i in real.items() if i.size and max(i.shape) == i.size}
        name, warnings = choose_variable(path, cubes, variable, flat, guess)
        facts = Facts(where="variable", warnings=warnings)
        facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
        facts.vectors = {n.lower(): vector(path, n, real[n]) for n in flat if n.lower() in VECTOR_NAMES}
        array = cube_array(path, file, name).transpose((2, 1, 0))
    return assemble(path, array, facts, axes)
