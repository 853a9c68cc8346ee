"""Volumes as ENVI: band-sequential little-endian float32, wavelengths, units, and a description that says synthetic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer
from gen_hyperspectral.writer_options import EnviWriter as Options
from gen_hyperspectral.writers.carried import describe, one_cube


def build(options: Options, context: Any = None) -> Writer:
    """The writer of ENVI files."""
    return EnviFiles()


class EnviFiles(Writer):
    """`stem.hdr` and `stem.dat`, and a pair a mask; the header is written last, so a header never lacks its data."""

    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        cube = np.ascontiguousarray(one_cube(volume, "envi"), "<f4")
        data, header = stem.with_name(stem.name + ".dat"), stem.with_name(stem.name + ".hdr")
        with atomic.replacing(data) as beside:
            cube.tofile(beside)
        atomic.write_text(header, header_text(cube.shape, spec, info))
        return [header, data, *(f for n, m in (masks or {}).items() for f in write_mask(stem, n, m, info))]


def write_mask(stem: Path, name: str, mask: np.ndarray, info: dict[str, Any]) -> list[Path]:
    """`stem-mask-NAME.hdr` and `.dat`: mask (D or 1, H, W) as unsigned bytes, 0 or 1."""
    beside_stem = f"{stem.name}-mask-{re.sub(r'[^A-Za-z0-9_.+-]+', '_', name)}"
    data, header = stem.with_name(beside_stem + ".dat"), stem.with_name(beside_stem + ".hdr")
    with atomic.replacing(data) as beside:
        np.ascontiguousarray(mask, np.uint8).tofile(beside)
    spec = VolumeSpec(size=mask.shape, units="mask")
    atomic.write_text(header, header_text(mask.shape, spec, {**info, "mask": name}, data_type=1))
    return [header, data]


def header_text(shape: tuple[int, ...], spec: VolumeSpec, info: dict[str, Any], data_type: int = 4) -> str:
    """The header of a (bands, lines, samples) cube; data_type: ENVI's code, 4 = float32, 1 = uint8."""
    bands, y, x = shape
    lines = [
        "ENVI",
        f"description = {{{_plain(describe(info))}}}",
        f"samples = {x}",
        f"lines = {y}",
        f"bands = {bands}",
        "header offset = 0",
        "file type = ENVI Standard",
        f"data type = {data_type}",
        "interleave = bsq",
        "byte order = 0",
    ]
    if spec.units:
        lines.append(f"data units = {_plain(spec.units)}")
    if spec.wavelength_nm is not None:
        lines.append("wavelength units = Nanometers")
        lines.append("wavelength = {" + ", ".join(repr(float(w)) for w in spec.wavelength_nm) + "}")
    lines.append(f"synthetic data = {'YES' if info.get('synthetic') else 'NO'}")
    lines.append(f"provenance = {{{_plain(json.dumps(info, sort_keys=True, default=str))}}}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text without what would end a value: braces and line ends."""
    return " ".join(text.translate(str.maketrans("{}", "()")).split())
