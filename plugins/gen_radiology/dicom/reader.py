"""A DICOM series as one raw volume, for inspection: from a folder of any nesting, or from one file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_radiology.dicom.files import walk
from gen_radiology.dicom.find_series import DicomFolder, find_objects
from gen_radiology.dicom.header import is_dicom
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.series import Series
from gen_radiology.reader_options import DicomReader as Options
from gen_radiology.volumes.image import Image

LOOKED_AT = 1000  # files of a folder before it counts as something else
SHOWN = 12


def build(options: Options, context: Any = None) -> Reader:
    """The reader of DICOM."""
    return DicomSeries(options.geometry)


class DicomSeries(Reader):
    """Opens a folder that holds one series, or one file."""

    version = 1
    cubes = False

    def __init__(self, geometry: str = "refuse"):
        self.geometry = geometry

    def recognizes(self, path: Path) -> bool:
        try:
            return any(is_dicom(file) for file in islice(walk(path), LOOKED_AT))
        except (OSError, DataError):
            return False

    def files(self, path: Path) -> list[Path]:
        """Every file of the series found there. Raises: DataError, MissingError."""
        return [file for series in _found(path).series for file in series.files]

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The volume with axes (z, y, x), float32 in physical values.

        variable: id of a series or of one of its images, where there are several; guess: then take the largest, with
        a warning. Raises: DataError naming the file, MissingError without pydicom.
        """
        found = _found(path)
        series, warnings = _choose(path, found, variable, guess)
        images = read_series(series, self.geometry)
        image, more = _pick(path, images, variable, guess)
        damaged = [f"{file}: {why}" for file, why in found.left_out if why.startswith(("damaged", "cannot"))]
        warnings += more + image.warnings + damaged[:SHOWN]
        meta = {
            "id": image.id,
            "modality": image.modality,
            "units": image.units,
            **place(image),
            "counts": {
                "series": len(found.series),
                "images": len(images),
                "slices": len(image.array),
                "files": len(image.files),
                "structures": len(found.structures),
                "segmentations": len(found.segmentations),
                "left_out": len(found.left_out),
            },
            **image.meta,
        }
        return RawVolume(image.array, "zyx", warnings=warnings, meta=meta)


def place(image: Image) -> dict[str, Any]:
    """Geometry as JSON: spacing_mm of z, y, x; origin_lps_mm; directions, the unit vectors of z, y, x in LPS."""
    return {
        "spacing_mm": image.spacing.tolist(),
        "origin_lps_mm": image.origin.tolist(),
        "directions": image.directions.T.tolist(),
    }


def _found(path: Path) -> DicomFolder:
    """What lies there, at least one series. Raises: DataError saying what was found instead."""
    found = find_objects(path)
    if not found.series:
        if found.left_out and path.is_file():
            raise DataError(f"{path}: {found.left_out[0][1]}")
        counts = {"RTSTRUCT": found.structures, "SEG": found.segmentations, "other files": found.left_out}
        kinds = [f"{len(files)} {name}" for name, files in counts.items() if files]
        raise DataError(f"{path}: no DICOM images ({', '.join(kinds) or 'nothing'} there)")
    return found


def _choose(path: Path, found: DicomFolder, variable: str | None, guess: bool) -> tuple[Series, list[str]]:
    names = [series.id for series in found.series]
    if variable is not None:
        # an image is called like its series and something more
        fits = [s for s in found.series if variable == s.id] or [s for s in found.series if variable.startswith(s.id)]
        if not fits:
            raise DataError(f"{path}: no series '{variable}'; there are {_listed(names)}")
        return max(fits, key=lambda series: len(series.id)), []
    if len(names) == 1:
        return found.series[0], []
    if not guess:
        raise DataError(f"{path}: holds {len(names)} series, name one: {_listed(names)}")
    largest = max(found.series, key=lambda series: len(series.frames) * series.frames[0].size[0])
    return largest, [f"holds {len(names)} series, this is '{largest.id}': {_listed(names)}"]


def _pick(path: Path, images: list[Image], variable: str | None, guess: bool) -> tuple[Image, list[str]]:
    names = [image.id for image in images]
    if variable in names:
        return images[names.index(variable)], []
    if len(images) == 1:
        return images[0], []
    if not guess and variable is None:
        raise DataError(f"{path}: holds {len(images)} images at the same places, name one: {_listed(names)}")
    return images[0], [f"holds {len(images)} images at the same places, this is '{names[0]}': {_listed(names)}"]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
