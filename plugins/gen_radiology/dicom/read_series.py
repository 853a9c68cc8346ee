"""Series read as volumes in physical values: several where times, echoes or b-values lie at the same places."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_radiology.dicom.frames import Frame
from gen_radiology.dicom.read_frames import read_frames, same_pixels
from gen_radiology.dicom.read_object import need_pydicom
from gen_radiology.dicom.series import Series, split_times
from gen_radiology.dicom.stack import lay_out, places, resample
from gen_radiology.dicom.stored_pixels import padding_value, stored
from gen_radiology.volumes.image import Image

POLICIES = ("refuse", "warn", "resample")
SHORT = {"TemporalPositionIdentifier": "t", "TriggerTime": "trigger", "DiffusionBValue": "b", "EchoTime": "te",
         "DiffusionGradientOrientation": "g", "EchoNumbers": "echo", "ImageType": "type"}  # fmt: skip
AIR_HU = -1000.0


def read_series(series: Series, geometry: str = "refuse") -> list[Image]:
    """The images of a series in physical values, several where it is 4-D.

    geometry: what happens to tilted, uneven or incomplete stacks. "refuse": DataError with the positions; "warn":
    stacked as they are (a tilted one with its true, sheared affine) with a warning; "resample": moved and
    interpolated linearly onto an even, upright grid, which is said. Equal duplicates are dropped with a note, others
    are refused under every policy.
    Raises: DataError naming the file; MissingError for a missing decoder.
    """
    need_pydicom()
    if geometry not in POLICIES:
        raise DataError(f"geometry is '{geometry}', expected one of {', '.join(POLICIES)}")
    if series.problems:
        more = f" (and {len(series.problems) - 1} more files of {series.id})" if len(series.problems) > 1 else ""
        raise DataError(series.problems[0] + more)
    stacks = split_times(series.frames)
    names: dict[str, int] = {}
    images = []
    for i, (what, frames) in enumerate(stacks):
        name = series.id + "".join(f"-{_value(key, value, i)}" for key, value in what.items())
        names[name] = names.get(name, 0) + 1
        name += f"-{names[name]}" if names[name] > 1 else ""
        images.append(_read_stack(series, name, what, frames, geometry))
        if len(stacks) > 1:
            images[-1].warnings.insert(
                0, f"image {i + 1} of {len(stacks)} at the same places, told apart by {_told(what)}"
            )
    return images


def _value(key: str, value: Any, i: int) -> str:
    short = SHORT.get(key, "t" if key.startswith("rank") else "n")
    if value is None:
        return f"{short}-unknown"
    return f"{short}{value:g}" if isinstance(value, int | float) else f"{short}{i + 1}"


def _told(what: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in what.items())


def _read_stack(series: Series, name: str, what: dict[str, Any], frames: list[Frame], geometry: str) -> Image:
    where = f"{series.folder}: series {name}"
    frames, notes = _without_duplicates(where, frames)
    grid = lay_out(frames)
    if grid.faults and geometry == "refuse":
        raise DataError(
            f'{where}: {"; ".join(grid.faults)} (geometry = "warn" stacks them as they are, '
            '"resample" interpolates onto an even grid)'
        )
    frames = grid.frames
    try:
        array = np.empty(grid.shape, np.float32)
    except MemoryError:
        raise DataError(f"{where}: {' x '.join(map(str, grid.shape))} voxels do not fit into memory") from None
    read_frames(frames, array)
    affine, uids = grid.affine, tuple(frame.uid for frame in frames)
    head = frames[0].header
    units = _units(series.modality, frames[0])
    how = stored(head)
    warnings = [*series.notes, *notes, *grid.notes]
    if grid.faults and geometry == "warn":
        mean = np.linalg.norm(grid.affine[:3, 0])
        warnings += [f"{fault}: stacked as they are, {mean:.4g} mm apart on average" for fault in grid.faults]
    meta = {
        "study_uid": series.study_uid,
        "series_uid": series.series_uid,
        "frame_of_reference_uid": head.text("FrameOfReferenceUID"),
        "description": series.description,
        "transfer_syntax": head.syntax,
        "rescale": sorted({(frame.slope, frame.intercept) for frame in frames})[:8],
        "bits_stored": how.bits,
        "signed": how.signed,
        "padding_value": padding_value(head, frames[0]),
    }
    if what:
        meta["split"] = {
            key: value if isinstance(value, int | float | str) else str(value) for key, value in what.items()
        }
    if head.enhanced:
        meta["frame_numbers"] = [frame.index + 1 for frame in frames]
    if grid.faults and geometry == "resample":
        fill = AIR_HU if units == "HU" else 0.0
        array, affine, done = resample(grid, array, fill)
        warnings.append(f"{'; '.join(grid.faults)}: {done}")
        meta["resampled"], uids = done, ()
        meta.pop("frame_numbers", None)
    if series.modality == "CT" and not any(frame.header.raw("RescaleSlope") for frame in frames) and not head.enhanced:
        warnings.append("CT without rescale: values are as stored")
    if how.inverted:
        warnings.append("MONOCHROME1: values were inverted, so that larger is brighter")
    if head.text("LossyImageCompression") == "01":
        warnings.append("pixel data were compressed with loss")
    return Image(
        array, affine, name, series.subject, series.modality, units,
        tuple(dict.fromkeys(frame.path for frame in frames)), uids, warnings, meta,
    )  # fmt: skip


def _units(modality: str, frame: Frame) -> str:
    """HU for CT that is rescaled and says nothing else; what RescaleType or Units say; "" where they say nothing."""
    said = "" if frame.units.upper() in ("US", "NORMALIZED") else frame.units
    rescaled = frame.header.raw("RescaleSlope") or frame.header.enhanced
    return said or ("HU" if modality == "CT" and rescaled else "")


def _without_duplicates(where: str, frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """One frame a place. Raises: DataError for places that hold different slices."""
    ordered, place = places(frames)
    kept, dropped = [], []
    for p in range(place[-1] + 1):
        here = [ordered[i] for i in np.flatnonzero(place == p)]
        if len(here) > 1:
            if not _interchangeable(here):
                at = ", ".join(f"{v:.6g}" for v in here[0].position)
                names = ", ".join(frame.path.name for frame in here[:4])
                crowded = int((np.bincount(place) > 1).sum())
                raise DataError(
                    f"{where}: {len(here)} different slices at position ({at}) mm ({names}), {crowded} such positions, "
                    "and no header key tells them apart"
                )
            dropped += here[1:]
        kept.append(here[0])
    if not dropped:
        return kept, []
    names = ", ".join(frame.path.name for frame in dropped[:4]) + (" ..." if len(dropped) > 4 else "")
    return kept, [f"{len(dropped)} duplicate slices with equal pixels dropped: {names}"]


def _interchangeable(frames: list[Frame]) -> bool:
    first = np.array(frames[0].position)
    near = all(np.abs(np.array(frame.position) - first).max() < 0.1 for frame in frames)
    return near and same_pixels(frames)
