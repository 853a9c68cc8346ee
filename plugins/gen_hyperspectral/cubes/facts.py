"""From an array and what its container says of it to a cube with axes (y, x, band): one way for every format.

What a container says comes by name: vectors of numbers (`wavelength_nm`, `wl`, ..., `bbl`, `bad_bands`) and single
values (`units`, `axes`, `nodata`). A sidecar fills in where the container is silent about wavelengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_core.writer import RawVolume
from gen_hyperspectral.cubes.layout import (
    BAD_BAND_NAMES,
    GOOD_BAND_NAMES,
    WAVELENGTH_NAMES,
    as_yxb,
    bad_bands_of,
    one_line,
    stored_axes,
    wavelengths_of,
)
from gen_hyperspectral.cubes.wavelengths import NM, UM, read_sidecar

VECTOR_NAMES = WAVELENGTH_NAMES + GOOD_BAND_NAMES + BAD_BAND_NAMES
UNIT_NAMES = ("wavelength_units", "wavelength_unit", "wavelengths_units", "wavelengths_unit")
NODATA_NAMES = ("nodata", "data_ignore_value", "_fillvalue", "missing_value", "no_data_value")
HEEDED = (*VECTOR_NAMES, *UNIT_NAMES, *NODATA_NAMES, "units", "axes")  # what attributes are asked for, lower case
DIMENSIONS = {
    "y": {"y", "row", "rows", "line", "lines", "lat", "latitude", "height"},
    "x": {"x", "column", "columns", "col", "sample", "samples", "lon", "longitude", "width"},
    "b": {"b", "band", "bands", "wavelength", "wavelengths", "wl", "c", "channel", "channels", "lambda", "spectral"},
}


@define
class Facts:
    """What a container says of its cube.

    vectors: lower-case name -> numbers. where: of what a vector is part, such as "variable". axes: order as the file
    states it ("" if it does not), custom: the order that its format means by custom. sidecar: a file beside it;
    sidecar_first: it outdoes what the container says.
    """

    vectors: dict[str, Any] = Factory(dict)
    where: str = "key"
    wavelength_units: str | None = None
    axes: str = ""
    custom: str = ""
    units: str = ""
    nodata: float | None = None
    sidecar: Path | None = None
    sidecar_first: bool = False
    warnings: list[str] = Factory(list)
    meta: dict[str, Any] = Factory(dict)

    def heed(self, attributes: Mapping[str, Any]) -> None:
        """Take up what attributes say, where nothing nearer has said it; names in any case."""
        for name, value in attributes.items():
            key = str(name).lower()
            if key in VECTOR_NAMES and numbers(value) is not None:
                self.vectors.setdefault(key, numbers(value))
            elif key in UNIT_NAMES and isinstance(value, str):
                self.wavelength_units = self.wavelength_units or value
            elif key == "units" and isinstance(value, str) and value.lower() not in NM | UM:
                self.units = self.units or one_line(value, 500)
            elif key == "axes" and isinstance(value, str) and sorted(value) == sorted("yxb"):
                self.axes = self.axes or value
            elif key in NODATA_NAMES and self.nodata is None:
                found = numbers(value)
                self.nodata = float(found[0]) if found is not None and len(found) == 1 else None


def numbers(value: Any) -> np.ndarray | None:
    """A value of a header as a vector of real numbers; None for anything else."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "buif" or array.size == 0 or max(array.shape, default=1) != array.size:
        return None
    return array.ravel()


def axes_by_dimensions(names: Iterable[Any] | None) -> str:
    """The order of three axes that are named, such as ("band", "y", "x"); "" where they are not all known."""
    found = ""
    for name in names or ():
        found += next((axis for axis, known in DIMENSIONS.items() if str(name).lower() in known), "?")
    return found if sorted(found) == sorted("yxb") else ""


def assemble(path: Path, array: Any, facts: Facts, asked: str = "auto") -> RawVolume:
    """The cube. array: three axes, stored order; asked: `dataset.axes`. Raises: DataError naming file and key."""
    meta = {"stored_shape": list(array.shape), **facts.meta}
    key = next((k for k in WAVELENGTH_NAMES if k in facts.vectors), None)
    values = None if key is None else facts.vectors[key]
    units = facts.wavelength_units if key is None or not key.endswith("_nm") else "nm"
    source = f"{facts.where} '{key}'"
    side: dict[str, Any] = {}
    if facts.sidecar is not None and (facts.sidecar_first or values is None):
        side = read_sidecar(facts.sidecar)
        meta["sidecar"] = facts.sidecar.name
        if "wavelength" in side:
            values, units, source = side["wavelength"], side.get("wavelength_units"), facts.sidecar.name
    if array.ndim != 3:
        raise DataError(f"{path}: array has shape {meta['stored_shape']}, expected three axes (y, x, band)")
    stated = asked if asked != "auto" else side.get("axes", "").replace("c", "") or facts.axes
    axes, told = stored_axes(array.shape, stated or "auto", None if values is None else len(values), facts.custom)
    array = as_yxb(array, axes)
    meta["stored_axes"] = axes
    n = array.shape[2]
    wavelength, more = wavelengths_of(n, values, units, source)
    bad, bad_told = None, []
    for name, good in [(k, True) for k in GOOD_BAND_NAMES] + [(k, False) for k in BAD_BAND_NAMES]:
        if name in facts.vectors and bad is None:
            bad, bad_told = bad_bands_of(n, facts.vectors[name], good, f"{facts.where} '{name}'")
    if "bad_bands" in side:
        bad, bad_told = bad_bands_of(n, side["bad_bands"], False, facts.sidecar.name)  # type: ignore[union-attr]
    said = str(side.get("units", "")) or facts.units
    if said:
        meta["units"] = said
    nodata = float(side["nodata"]) if "nodata" in side else facts.nodata
    if nodata is not None and math.isnan(nodata):
        nodata = None  # NaN is missing in any case
    return RawVolume(array, "yxb", wavelength, bad, nodata, facts.warnings + told + more + bad_told, meta)
