"""Volumes as .npy, with a JSON sidecar that says axes, wavelengths, units and where the volume came from."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer
from gen_hyperspectral.writer_options import NpyWriter as Options
from gen_hyperspectral.writers.carried import describe


def build(options: Options, context: Any = None) -> Writer:
    """The writer of .npy files."""
    return NpyFiles()


class NpyFiles(Writer):
    """`stem.npy`, axes (D, H, W), or (C, D, H, W) of several channels; `stem.json`; `stem-masks.npz` of masks."""

    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        volume = np.ascontiguousarray(volume, "<f4")
        array = volume[0] if len(volume) == 1 else volume
        data, sidecar = stem.with_name(stem.name + ".npy"), stem.with_name(stem.name + ".json")
        with atomic.replacing(data) as beside, beside.open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
        facts: dict[str, Any] = {"axes": "byx" if len(volume) == 1 else "cbyx"}
        if spec.wavelength_nm is not None:
            facts["wavelength_nm"] = [float(w) for w in spec.wavelength_nm]
        atomic.write_json(
            sidecar,
            {
                **facts,
                "units": spec.units,
                "channels": list(spec.channels),
                "description": describe(info),
                "info": info,
            },
        )
        return [data, sidecar, *([write_masks(stem, masks)] if masks else [])]


def write_masks(stem: Path, masks: dict[str, np.ndarray]) -> Path:
    """`stem-masks.npz`: one bool array (D or 1, H, W) a name. The same masks give the same bytes."""
    path = stem.with_name(stem.name + "-masks.npz")
    # not np.savez: a mask may be called "file", which is the name of its first argument
    with atomic.replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mask in masks.items():
            with archive.open(f"{name}.npy", "w") as entry:  # dated 1980, not now
                np.lib.format.write_array(entry, np.ascontiguousarray(mask, bool), allow_pickle=False)
    return path
