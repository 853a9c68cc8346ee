"""Volumes as HDF5: one array (bands, rows, columns) with wavelengths, units and provenance as attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.errors import MissingError
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer
from gen_hyperspectral.writer_options import Hdf5Writer as Options
from gen_hyperspectral.writers.carried import describe, one_cube


def build(options: Options, context: Any = None) -> Writer:
    """The writer of HDF5 files. Raises: MissingError naming the extra when h5py is not installed."""
    try:
        import h5py  # noqa: F401 - asked for before any volume is computed
    except ImportError:
        raise MissingError(
            "sample.format = 'hdf5' needs h5py: pip install \"gen-imaging[hyper]\" (extra `hyper`)"
        ) from None
    return Hdf5Files(options)


class Hdf5Files(Writer):
    """`stem.h5`; masks are datasets masks/NAME (D or 1, H, W), 0 or 1."""

    def __init__(self, options: Options):
        self.options = options

    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        import h5py

        cube = np.ascontiguousarray(one_cube(volume, "hdf5"), "<f4")
        path = stem.with_name(stem.name + ".h5")
        packing = (
            {"compression": "gzip", "compression_opts": self.options.compression} if self.options.compression else {}
        )
        # track_times off: the same volume gives the same bytes
        with (
            atomic.replacing(path) as beside,
            h5py.File(beside, "w", libver="v110", track_order=False) as file,
        ):
            data = file.create_dataset(self.options.dataset, data=cube, track_times=False, **packing)
            data.attrs["axes"] = "byx"
            data.attrs["units"] = spec.units
            if spec.wavelength_nm is not None:
                data.attrs["wavelength_nm"] = np.asarray(spec.wavelength_nm, np.float64)
            for name, mask in (masks or {}).items():
                kept = np.ascontiguousarray(mask, np.uint8)
                file.create_dataset(f"masks/{name}", data=kept, track_times=False, **packing)
            file.attrs["description"] = describe(info)
            file.attrs["synthetic"] = bool(info.get("synthetic", False))
            file.attrs["info"] = json.dumps(info, sort_keys=True, default=str)
        return [path]
