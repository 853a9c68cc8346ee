"""HDF5 cubes (.h5, .hdf5, netCDF-4): any 3-D array of real numbers, contiguous, chunked or packed.

`dataset.variable` names the array by its path in the file when several fit. Wavelengths are looked for in the
attributes of the array and of the groups around it, then in a one-dimensional array by name, the nearest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.containers.hdf5.arrays import SIGNATURE, Array, Hdf5File
from gen_hyperspectral.containers.hdf5.library import reading
from gen_hyperspectral.cubes.facts import HEEDED, VECTOR_NAMES, Facts, assemble, axes_by_dimensions
from gen_hyperspectral.cubes.layout import choose_variable
from gen_hyperspectral.cubes.wavelengths import find_sidecar
from gen_hyperspectral.reader_options import Hdf5Reader as Options

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
        with reading(path):
            file = Hdf5File(path)
            real = {name: item for name, item in file.arrays().items() if item.dtype.kind in "buif" and item.shape}
            cubes = {n: i.shape for n, i in real.items() if i.shape and len(i.shape) == 3 and not n.startswith(MASKS)}
            flat = {n: i.size for n, i in real.items() if i.shape and i.size and max(i.shape) == i.size}
            wanted = variable.strip("/") if variable else None
            name, warnings = choose_variable(path, cubes, wanted, {_leaf(n): size for n, size in flat.items()}, guess)
            nearest = _nearest(name, (n for n, size in flat.items() if size in cubes[name]))
            above = ["/".join(name.split("/")[:depth]) for depth in reversed(range(name.count("/") + 1))]
            about = file.about([name, *nearest.values()], HEEDED, above, axes=True)
            item = about.arrays[name]
            facts = Facts(where="attribute", warnings=warnings, sidecar=find_sidecar(path))
            facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
            facts.heed(item.attributes)
            facts.axes = facts.axes or axes_by_dimensions(map(_leaf, about.axes))
            for leaf, n in nearest.items():
                if leaf not in facts.vectors:
                    facts.vectors[leaf] = file.vector(n, real[n], about.arrays[n])
                    told = {k.lower(): v for k, v in about.arrays[n].attributes.items()}.get("units")
                    if "wa" in leaf and isinstance(told, str):
                        facts.wavelength_units = facts.wavelength_units or told
            for group in about.groups:
                facts.heed(group)
            array = file.cube(name, real[name], item)
        return assemble(path, array, facts, self.options.axes)


def _leaf(name: str) -> str:
    return str(name).rpartition("/")[2].lower()


def _nearest(name: str, vectors: Iterable[str]) -> dict[str, str]:
    """The vector of each known name that lies nearest to the cube: its leaf in lower case -> its path."""
    found: dict[str, str] = {}
    for n in sorted(vectors, key=lambda n: (-_shared(n, name), n.count("/"), n)):
        if _leaf(n) in VECTOR_NAMES:
            found.setdefault(_leaf(n), n)
    return found


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
    with reading(path):
        file = Hdf5File(path)
        real = {name: item for name, item in file.arrays(["matlab_class"]).items() if _numeric(name, item)}
        cubes = {n: i.shape[::-1] for n, i in real.items() if i.shape and len(i.shape) == 3}
        flat = {n: i.size for n, i in real.items() if i.shape and i.size and max(i.shape) == i.size}
        name, warnings = choose_variable(path, cubes, variable, flat, guess)
        beside = [n for n in flat if n.lower() in VECTOR_NAMES]
        stored = file.about([name, *beside]).arrays
        facts = Facts(where="variable", warnings=warnings)
        facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
        facts.vectors = {n.lower(): file.vector(n, real[n], stored[n]) for n in beside}
        array = file.cube(name, real[name], stored[name]).transpose((2, 1, 0))
    return assemble(path, array, facts, axes)


def _numeric(name: str, item: Array) -> bool:
    """Whether an array is a variable of numbers, as MATLAB sees it."""
    kind = item.attributes.get("MATLAB_class")
    texts = isinstance(kind, str) and kind in ("char", "cell", "logical")
    return "/" not in name and item.dtype.kind in "uif" and bool(item.shape) and not texts
