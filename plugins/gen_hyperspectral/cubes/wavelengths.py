"""Wavelengths of a cube: units to nanometres, and the small files that carry them beside an array.

Nothing is invented: a unit that is no length (the set points `SP1` of a Fabry-Perot imager) leaves the
wavelengths unknown, and a unit that had to be guessed is a warning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_hyperspectral.cubes.names import stem_of

NM = {"nm", "nanometer", "nanometers", "nanometre", "nanometres"}
UM = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"}
UNKNOWN = {"", "unknown", "none"}
SIDECAR_SUFFIXES = (".json", ".csv", ".txt")
SIDECAR_BYTES = 1 << 20  # a wavelength list is small; anything larger is another file


def to_nm(values: Iterable[float], units: str | None = None) -> tuple[np.ndarray | None, list[str]]:
    """Wavelengths in nm (float64) and warnings; None where they cannot be known.

    units: as a header says it; None or "unknown" means guess: values within 0.3..3 are micrometres, within
    200..20000 nanometres.
    """
    wavelength = np.asarray(list(values), np.float64).ravel()
    name = (units or "").strip().lower()
    if wavelength.size == 0:
        return None, []
    if not np.isfinite(wavelength).all() or (wavelength < 0).any():
        return None, ["wavelengths hold negative or non-finite values: taken as unknown"]
    if name in NM:
        return wavelength, []
    if name in UM:
        return wavelength * 1000.0, []
    if name not in UNKNOWN:
        return None, [
            f"wavelength unit '{' '.join(str(units).split())[:40]}' is not nm or micrometres: taken as unknown"
        ]
    low, high = float(wavelength.min()), float(wavelength.max())
    if 0.3 <= low and high <= 3.0:
        return wavelength * 1000.0, [f"no wavelength unit; {low:g}..{high:g} guessed to be micrometres"]
    if 200.0 <= low and high <= 20000.0:
        return wavelength, [f"no wavelength unit; {low:g}..{high:g} guessed to be nanometres"]
    return None, [f"no wavelength unit and {low:g}..{high:g} fits neither nm nor micrometres: taken as unknown"]


def find_sidecar(path: Path) -> Path | None:
    """The file of the same stem that may carry wavelengths, or `wavelengths.*` of the same folder."""
    for stem in (stem_of(path), "wavelengths"):
        for suffix in SIDECAR_SUFFIXES:
            candidate = path.with_name(stem + suffix)
            if candidate.is_file():
                return candidate
    return None


def read_sidecar(path: Path) -> dict[str, Any]:
    """The content of a sidecar: any of wavelength (list), wavelength_units, axes, bad_bands, units, nodata.

    Raises: DataError naming the file (and the key, for JSON) when it cannot be understood.
    """
    if path.stat().st_size > SIDECAR_BYTES:
        raise DataError(f"{path}: too large for a wavelength sidecar ({path.stat().st_size} bytes)")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: sidecar cannot be read: {error}") from None
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_table(path, text)


def _from_json(path: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise DataError(f"{path}: sidecar is not JSON: {error}") from None
    if isinstance(data, list):
        data = {"wavelengths": data}
    if not isinstance(data, dict):
        raise DataError(f"{path}: sidecar must be a JSON object or a list of wavelengths")
    found: dict[str, Any] = {}
    for key in ("wavelength_nm", "wavelengths_nm", "wavelength_um", "wavelengths", "wavelength"):
        if data.get(key) is not None:
            found["wavelength"] = _numbers(path, key, data[key])
            found["wavelength_units"] = key[-2:] if key.endswith(("_nm", "_um")) else None
            break
    if "wavelength_units" not in found or found["wavelength_units"] is None:
        found["wavelength_units"] = data.get("wavelength_units")
    axes = data.get("axes")
    if axes is not None:
        if sorted(str(axes)) not in (sorted("yxb"), sorted("cyxb")):
            raise DataError(f"{path}: key 'axes' is {str(axes)[:40]!r}, expected an order of y, x, b such as \"byx\"")
        found["axes"] = str(axes)
    if data.get("bad_bands") is not None:
        found["bad_bands"] = _numbers(path, "bad_bands", data["bad_bands"])
    for key in ("nodata", "units"):
        if data.get(key) is not None:
            found[key] = data[key]
    if "nodata" in found:
        (found["nodata"],) = _numbers(path, "nodata", [found["nodata"]], "a number")
    return found


def _numbers(path: Path, key: str, value: Any, what: str = "a list of numbers") -> list[float]:
    if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
        raise DataError(f"{path}: key '{key}' must be {what}")
    try:
        return [float(v) for v in value]
    except OverflowError:
        raise DataError(f"{path}: key '{key}' must be {what} within the range of float64") from None


def _from_table(path: Path, text: str) -> dict[str, Any]:
    """One number a line, or a table: the column whose head speaks of wavelengths, else the last one."""
    rows = [line.replace(";", ",").replace(",", " ").split() for line in text.splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if not rows:
        raise DataError(f"{path}: sidecar holds no wavelengths")
    head, column = "", -1
    if not all(_is_number(cell) for cell in rows[0]):
        names = [name.strip('"').lower() for name in rows.pop(0)]
        column = next((i for i, name in enumerate(names) if "wave" in name or name in NM | UM), len(names) - 1)
        head = names[column]
    if rows and column >= len(rows[0]):
        raise DataError(f"{path}: lines of the sidecar have fewer columns than its first line")
    if len(rows) == 1:  # everything in one line
        values = rows[0]
    else:
        if any(len(row) != len(rows[0]) for row in rows):
            raise DataError(f"{path}: lines of the sidecar differ in their number of columns")
        values = [row[column] for row in rows]
    if not values or not all(_is_number(value) for value in values):
        raise DataError(f"{path}: sidecar must hold numbers (wavelengths), one a line or one table column")
    units = next((unit for unit in ("nm", "um", "µm") if head.endswith(unit) or f"({unit})" in head), None)
    return {"wavelength": [float(value) for value in values], "wavelength_units": units}


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
