"""A found cube, opened: what its reader gives, and what the recipe says of it where the file is silent."""

from __future__ import annotations

import numpy as np

from gen_core.errors import DataError, GenError
from gen_core.writer import RawVolume
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.wavelengths import to_nm
from gen_hyperspectral.dataset.sources import Source
from gen_hyperspectral.dataset_options import Hyperspectral


def open_source(source: Source, options: Hyperspectral) -> RawVolume:
    """The raw cube, with what the recipe says about wavelengths, no-data and units. Raises: DataError."""
    raw = _cube(source, options)
    if options.wavelengths_nm is not None and raw.wavelength_nm is None:
        bands = raw.array.shape[2]
        if len(options.wavelengths_nm) != bands:
            raise DataError(
                f"{source.path}: dataset.wavelengths_nm has {len(options.wavelengths_nm)} values for {bands} bands"
            )
        raw.wavelength_nm, warnings = to_nm(options.wavelengths_nm, "nm")
        raw.warnings = [w for w in raw.warnings if "wavelength" not in w] + warnings
    elif options.wavelength_units and raw.wavelength_nm is not None and any("guessed" in w for w in raw.warnings):
        guess = next(w for w in raw.warnings if "guessed" in w)
        factor = {"nm": 1.0, "um": 1000.0}[options.wavelength_units]
        stored = raw.wavelength_nm / (1000.0 if "micrometres" in guess else 1.0)
        raw.wavelength_nm = stored * factor
        raw.warnings.remove(guess)
    if not options.use_bbl:
        raw.bad_bands = None
    if options.units:
        raw.meta["units"] = options.units
    return raw


def _cube(source: Source, options: Hyperspectral) -> RawVolume:
    """The cube as its reader gives it, with axes (y, x, band)."""
    try:
        raw = source.reader.open(source.path, variable=options.variable or None)
        if raw.axes != "yxb":
            if sorted(raw.axes) != sorted("yxb"):
                raise DataError(
                    f"{source.path}: reader '{source.reader_name}' gives axes '{raw.axes}', expected y, x and b (bands)"
                )
            raw.array, raw.axes = raw.array.transpose([raw.axes.index(a) for a in "yxb"]), "yxb"
        if not isinstance(raw.array, np.ndarray) and not hasattr(raw.array, "select"):
            raw.array = np.asarray(raw.array)
    except GenError:
        raise
    except Exception as error:  # of a reader of someone else's
        what = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{source.path}: reader '{source.reader_name}' fails: {what}") from error
    return raw
