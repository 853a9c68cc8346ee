"""zarr cubes: a folder that is an array, or a group with arrays in it (formats 2 and 3).

`dataset.variable` names the array by its path in the group when several fit. Wavelengths are looked for in the
attributes of the array and its groups, then in a one-dimensional array by name beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.containers.zarr.arrays import arrays, is_zarr, vector
from gen_hyperspectral.containers.zarr.metadata import group_attributes
from gen_hyperspectral.cubes.chunked import ChunkedCube
from gen_hyperspectral.cubes.facts import VECTOR_NAMES, Facts, assemble, axes_by_dimensions
from gen_hyperspectral.cubes.layout import choose_variable
from gen_hyperspectral.cubes.wavelengths import find_sidecar
from gen_hyperspectral.reader_options import ZarrReader as Options


def build(options: Options, context: Any = None) -> Reader:
    """The reader of zarr folders."""
    return ZarrCubes(options)


class ZarrCubes(Reader):
    """Opens zarr folders; `version` enters cache keys."""

    version = 1

    def __init__(self, options: Options):
        self.options = options

    def recognizes(self, path: Path) -> bool:
        try:
            return is_zarr(path)
        except OSError:
            return False

    def files(self, path: Path) -> list[Path]:
        """Every file of the folder, and a sidecar beside it, if any."""
        sidecar = find_sidecar(path)
        return sorted(p for p in path.rglob("*") if p.is_file()) + ([] if sidecar is None else [sidecar])

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band). variable: path of the array in the group. Raises: DataError."""
        try:
            return self._open(path, variable, guess)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None

    def _open(self, path: Path, variable: str | None, guess: bool) -> RawVolume:
        if not is_zarr(path):
            raise DataError(f"{path}: no zarr folder (no .zarray, .zgroup or zarr.json in it)")
        found = {name or path.stem: array for name, array in arrays(path).items()}
        shapes = {n: tuple(s for s in a.shape if s > 1 or len(a.shape) <= 3) for n, a in found.items()}
        cubes = {n: s for n, s in shapes.items() if len(s) == 3 and min(s) > 0 and found[n].dtype.kind in "buif"}
        flat = {n: a for n, a in found.items() if len(a.shape) == 1 and a.dtype.kind in "buif"}
        wanted = variable.strip("/") if variable else None
        lengths = {_leaf(n): a.shape[0] for n, a in flat.items()}
        name, warnings = choose_variable(path, cubes, wanted, lengths, guess)
        array = found[name]
        array.check()
        kept = [i for i, s in enumerate(array.shape) if s > 1 or len(array.shape) <= 3]
        facts = Facts(where="attribute", warnings=warnings, sidecar=find_sidecar(path))
        facts.meta = {"variable": name, "variables": {n: list(s) for n, s in cubes.items()}}
        facts.heed(array.attributes)
        if len(array.dimensions) == len(array.shape):
            facts.axes = facts.axes or axes_by_dimensions(array.dimensions[i] for i in kept)
        folder = array.path
        while folder != path:
            folder = folder.parent
            for n, a in flat.items():
                key = _leaf(n)
                if a.path.parent == folder and key in VECTOR_NAMES and key not in facts.vectors:
                    if a.shape[0] not in cubes[name]:
                        continue
                    facts.vectors[key] = vector(a)
                    told = {k.lower(): v for k, v in a.attributes.items()}.get("units")
                    if "wa" in key and isinstance(told, str):
                        facts.wavelength_units = facts.wavelength_units or told
            facts.heed(group_attributes(folder))
        return assemble(path, ChunkedCube(array, kept), facts, self.options.axes)


def _leaf(name: str) -> str:
    return name.rpartition("/")[2].lower()
