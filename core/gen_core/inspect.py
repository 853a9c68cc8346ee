"""What a file holds, told by whichever registered reader recognizes it; statistics are streamed.

Conventions of the figures: minimum, maximum and mean over finite values, as stored; `sha_f32` is the SHA-256 of
the C-contiguous little-endian float32 bytes in the order of `axes`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError, MissingError
from gen_core.mapped import blocks
from gen_core.registry import Registry
from gen_core.writer import Converter, RawVolume, Reader


def inspect_path(
    path: str | Path,
    registry: Registry,
    variable: str | None = None,
    wavelengths_nm: Sequence[float] | None = None,
    masks: Sequence[str | Path] = (),
    geometry: str = "refuse",
) -> dict[str, Any] | list[dict[str, Any]]:
    """The facts of one file as JSON: shape, axes, wavelength_nm, min, max, mean, sha_f32, warnings and more.

    variable: which array of a file that holds several. wavelengths_nm: of its bands, where the file is silent.
    masks: files or folders whose voxels are counted on the image; geometry: policy for stacks without an even grid.
    A folder with several images gives a list.
    Raises: DataError when there is no such file, no reader recognizes it, or it is damaged.
    """
    path = Path(path).expanduser()
    converter = find_converter(path, registry)
    if converter is not None:
        found = converter.inspect(path, tuple(Path(mask).expanduser() for mask in masks), geometry)
        return found[0] if len(found) == 1 else found
    if masks:
        raise DataError(f"{path}: masks are counted on CT, MRI and the like, which this is not")
    name, reader = find_reader(path, registry)
    raw = reader.open(path, variable=variable, guess=True)
    if wavelengths_nm is not None and raw.wavelength_nm is None:
        raw.wavelength_nm = np.asarray(wavelengths_nm, np.float64)
    return {"file": str(path), "reader": name, **describe(raw)}


def find_converter(path: Path, registry: Registry) -> Converter | None:
    """The first registered converter, by name, that recognizes a path; None where there is none."""
    for name in registry.names("converter") if path.exists() else []:
        component = registry.get("converter", name)
        converter = component.build(component.options_class()(), None)
        if converter.recognizes(path):
            return converter
    return None


def find_reader(path: Path, registry: Registry) -> tuple[str, Reader]:
    """The first registered reader, by name, that recognizes a path. Raises: DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    names, missing = registry.names("reader"), ""
    for name in names:
        component = registry.get("reader", name)
        try:
            reader = component.build(component.options_class()(), None)
        except MissingError as error:  # of one plugin: the others can read all the same
            missing += f"; {error}"
            continue
        if reader.recognizes(path):
            return name, reader
    what = "this folder as one volume; name one of its files" if path.is_dir() else "this file"
    raise DataError(f"{path}: no reader recognizes {what} (installed: {', '.join(names) or 'none'}){missing}")


def describe(raw: RawVolume) -> dict[str, Any]:
    """Shape, axes, statistics and hash of a raw volume."""
    array = raw.array
    return {
        "shape": list(array.shape),
        "axes": raw.axes,
        "dtype": array.dtype.newbyteorder("=").name,
        "wavelength_nm": None if raw.wavelength_nm is None else [float(w) for w in raw.wavelength_nm],
        "bad_bands": None if raw.bad_bands is None else [int(b) for b in np.flatnonzero(raw.bad_bands)],
        "nodata": None if raw.nodata is None or not math.isfinite(raw.nodata) else float(raw.nodata),
        **statistics(array),
        "warnings": list(raw.warnings),
        "meta": raw.meta,
    }


def statistics(array: np.ndarray) -> dict[str, Any]:
    """min, max, mean (None without finite values), number of values that are not finite, and sha_f32; streamed."""
    digest = hashlib.sha256()
    low, high, total, count = math.inf, -math.inf, 0.0, 0
    for block in blocks(array):
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite, as a cast says
            digest.update(np.ascontiguousarray(block, "<f4").view(np.uint8))
        values = _finite(block)
        if values.size:
            low, high = min(low, values.min().item()), max(high, values.max().item())
            with np.errstate(over="ignore"):
                total += float(values.sum(dtype=np.float64))
            count += values.size
    known = count > 0
    mean = total / count if known else None
    if mean is not None and not math.isfinite(mean):  # a sum beyond float64, of values within it
        mean = math.fsum(float((_finite(block) / count).sum()) for block in blocks(array))
    return {
        "min": low if known else None,
        "max": high if known else None,
        "mean": mean,
        "nonfinite": int(array.size - count),
        "sha_f32": digest.hexdigest(),
    }


def _finite(block: Any) -> np.ndarray:
    """The finite values of a block."""
    values = np.asarray(block)
    if values.dtype.kind != "f":
        return values
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]
