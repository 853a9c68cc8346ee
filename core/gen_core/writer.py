"""The writer and reader interfaces: volumes out to files people can open, and any file in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.volume import VolumeSpec


class Writer(ABC):
    """Built as `build(options, None)`. Writes one volume in physical units."""

    @abstractmethod
    def write(self, stem: Path, volume: np.ndarray, spec: VolumeSpec, info: dict[str, Any]) -> list[Path]:
        """volume (C, D, H, W) float32 in physical units -> files beside `stem` (atomic); info: provenance as JSON."""


@define(eq=False)
class RawVolume:
    """A file as stored: `array` may be lazy (memory-mapped); axes names its axes, e.g. "yxb" or "zyx".

    wavelength_nm: per band, None if unknown. warnings: one line each. meta: geometry or header facts as JSON.
    """

    array: np.ndarray
    axes: str
    wavelength_nm: np.ndarray | None = None
    bad_bands: np.ndarray | None = None  # bool per band, True = unusable
    nodata: float | None = None
    warnings: list[str] = Factory(list)
    meta: dict[str, Any] = Factory(dict)


class Reader(ABC):
    """Opens one kind of file or folder; registered so that inspection and data sets find it by content."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether this reader can open `path`; cheap, never raises."""

    @abstractmethod
    def open(self, path: Path, **options: Any) -> RawVolume:
        """Raises: DataError naming file and key."""
