"""The writer, reader and converter interfaces: volumes out to files people can open, any file in, folders across."""

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
    def write(
        self,
        stem: Path,
        volume: np.ndarray,
        spec: VolumeSpec,
        info: dict[str, Any],
        masks: dict[str, np.ndarray] | None = None,
    ) -> list[Path]:
        """volume (C, D, H, W) float32 in physical units -> the files written, whole or not at all.

        They lie beside `stem`, or in a folder named after it. info: provenance as JSON.
        masks: name -> (D or 1, H, W) bool; they go into the same file or into files beside it.
        """


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
    """Opens one kind of file or folder; registered so that inspection and data sets find it by content.

    A reader may also say `files(path)`, everything its content depends on (else: the file, or all of a folder), and
    `version`, an integer that enters cache keys (else: that of its registration).
    """

    cubes = True  # whether its volumes may have an axis of bands; data sets of cubes pass over readers without

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether this reader can open `path`; cheap, never raises."""

    @abstractmethod
    def open(self, path: Path, **options: Any) -> RawVolume:
        """Raises: DataError naming file and key."""


@define
class Conversion:
    """What `gen data convert` was asked for.

    to: the format of the images. masks: files or folders with masks beside those found under `source`.
    names: alias table of structures. require: what a patient must have, else all of it is left out.
    geometry: policy for stacks without an even grid. table: file for key and pseudonyms, None to forget them.
    keep_ids: patients keep their names. dates: "remove" or "shift". burned_in: "refuse" or "warn".
    labels: one label file an image instead of one file a mask. characteristics: sex, age, size and weight stay.
    """

    source: Path
    target: Path
    to: str = "nifti"
    masks: tuple[Path, ...] = ()
    names: Path | None = None
    require: tuple[str, ...] = ("image",)
    geometry: str = "refuse"
    table: Path | None = None
    keep_ids: bool = False
    dates: str = "remove"
    burned_in: str = "refuse"
    labels: bool = False
    characteristics: bool = False


class Converter(ABC):
    """Built as `build(options, None)`. Knows the objects of one field: images, structures, segmentations."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether `path`, a file or folder, holds images of this field; cheap, never raises."""

    @abstractmethod
    def inspect(self, path: Path, masks: tuple[Path, ...] = (), geometry: str = "refuse") -> list[dict[str, Any]]:
        """Facts of every image of `path` as JSON, with voxel counts by mask. Raises: DataError."""

    @abstractmethod
    def convert(self, asked: Conversion) -> dict[str, Any]:
        """Write what is whole into `asked.target`, keeping what an earlier call left there whole.

        Returns {"patients": rows, "written": rows, "left_out": rows}; nothing may be usable, then written is empty.
        """
