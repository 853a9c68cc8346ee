"""Which array of a file is the cube, and which of its axes are rows, columns and bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.cubes.wavelengths import to_nm

WAVELENGTH_NAMES = (
    "wavelength_nm", "wavelengths_nm", "wavelength", "wavelengths", "wl", "wave", "lambda", "lambdas", "bands_nm",
)  # fmt: skip
GOOD_BAND_NAMES = ("bbl",)  # 1 = good, as ENVI has it
BAD_BAND_NAMES = ("bad_bands",)  # 1 = bad


def one_line(value: object, limit: int = 120) -> str:
    """What a file says, fit for a message of one line: no line ends, no control characters, cut off."""
    text = str(value) or type(value).__name__
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "..."


def choose_variable(
    path: Path, shapes: dict[str, tuple[int, ...]], wanted: str | None, vectors: dict[str, int], guess: bool
) -> tuple[str, list[str]]:
    """The name of the cube among numeric arrays, and warnings.

    shapes: 3-D candidates. vectors: length of each 1-D array. guess: when several fit, take the only one with
    as many bands as there are wavelengths and say so (for inspection), instead of asking.
    Raises: DataError listing the candidates and the key `dataset.variable`.
    """
    listed = one_line(", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items()), 500)
    if wanted:
        if wanted not in shapes:
            raise DataError(
                f"{path}: dataset.variable = '{wanted}' is no 3-D numeric array here; there are: {listed or 'none'}"
            )
        return wanted, []
    if not shapes:
        raise DataError(f"{path}: no 3-D array of real numbers in this file")
    if len(shapes) == 1:
        return next(iter(shapes)), []
    if guess:
        lengths = {vectors[name] for name in vectors if name.lower() in WAVELENGTH_NAMES}
        fitting = [name for name, shape in shapes.items() if lengths & set(shape)]
        if len(fitting) == 1:
            return fitting[0], [f"several arrays could be the cube ({listed}); took '{fitting[0]}'"]
    raise DataError(f"{path}: several arrays could be the cube ({listed}); choose one with dataset.variable")


def stored_axes(shape: tuple[int, ...], axes: str, bands: int | None, custom: str = "") -> tuple[str, list[str]]:
    """The order of the axes of a 3-D array, and warnings.

    axes: "auto" or the order itself. bands: number of wavelengths, None if unknown. custom: the order that a format
    means where nothing speaks against it.
    """
    if axes != "auto":
        return axes, []
    if custom and (bands is None or shape[custom.index("b")] == bands or bands not in shape):
        return custom, []
    if bands is not None and shape.count(bands) >= 1:
        if shape[2] == bands:
            return "yxb", []
        return ("byx", []) if shape[0] == bands else ("ybx", [])
    if shape[1] == shape[2] and 1 < shape[0] < shape[2]:  # square planes: bands come first
        return "byx", [f"axes not stated; {'x'.join(map(str, shape))} taken as (band, y, x): its planes are square"]
    return "yxb", [f"axes not stated; {'x'.join(map(str, shape))} taken as (y, x, band)"]


def as_yxb(array: np.ndarray, axes: str) -> np.ndarray:
    """The array with axes (y, x, band), without copying."""
    return array.transpose([axes.index(a) for a in "yxb"])


def wavelengths_of(bands: int, values: Any, units: str | None, source: str) -> tuple[np.ndarray | None, list[str]]:
    """Wavelengths in nm where `values` has one for each band, else None with a warning."""
    if values is None:
        return None, ["no wavelengths in this file"]
    if len(values) != bands:
        return None, [f"{source}: {len(values)} wavelengths for {bands} bands: taken as unknown"]
    return to_nm(values, units)


def bad_bands_of(bands: int, values: Any, good: bool, source: str) -> tuple[np.ndarray | None, list[str]]:
    """bool per band, True = bad. good: `values` says 1 for good bands, as ENVI's bbl does."""
    if values is None:
        return None, []
    flags = np.asarray(values).ravel() != 0
    if len(flags) != bands:
        return None, [f"{source}: {len(flags)} bad-band flags for {bands} bands: ignored"]
    return (~flags if good else flags), []
