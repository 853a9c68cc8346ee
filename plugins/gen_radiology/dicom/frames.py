"""Frames of an image object: where each lies in the patient, how its values are scaled, what tells it apart.

A frame has a position (centre of its first pixel, LPS mm), an orientation (unit vectors along a row and down a
column) and a pixel spacing.
Source: DICOM PS3.3 2024e, C.7.6.2.1.1 (image plane); functional groups: C.7.6.16.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.elements import DEFLATED
from gen_radiology.dicom.header import Header

UNIT = 5e-3  # orientation vectors are unit and orthogonal to this: some headers hold three digits
SAME_ORIENTATION = 1e-3
TIMES = (
    "TemporalPositionIdentifier", "TriggerTime", "DiffusionBValue", "DiffusionGradientOrientation", "EchoTime",
    "EchoNumbers", "ImageType", "InversionTime", "FlipAngle", "AcquisitionNumber", "AcquisitionTime", "ContentTime",
)  # fmt: skip
"""What tells frames at one position apart, the most telling first."""

Values = tuple[float, ...] | None


@define(eq=False, slots=True)
class Frame:
    """One slice. index: of the frame in its file. spacing: (down a column, along a row) mm. keys: values of TIMES."""

    header: Header
    index: int
    position: tuple[float, float, float]
    orientation: tuple[float, ...]  # row (3), column (3)
    spacing: tuple[float, float]
    size: tuple[int, int]  # rows, columns
    slope: float
    intercept: float
    units: str
    uid: str
    thickness: float  # mm from slice to slice as the header has it, NaN if unknown
    stack: str = ""
    keys: dict[str, Any] = Factory(dict)

    @property
    def path(self) -> Path:
        return self.header.path


def frames_of(header: Header) -> list[Frame]:
    """The frames of an image object. Raises: DataError naming file and key."""
    size = (header.whole("Rows"), header.whole("Columns"))
    if min(size) < 1:
        raise DataError(f"{header.path}: Rows x Columns is {size[0]} x {size[1]}, expected at least 1 x 1")
    if header.enhanced:
        return _enhanced_frames(header)
    keys = {name: _key(header, name) for name in TIMES if header.raw(name)}
    private = {"SIEMENS": "SiemensBValue", "PHILIPS": "PhilipsBValue"}.get(
        header.text("Manufacturer").upper().split(" ")[0]
    )
    if private and "DiffusionBValue" not in keys and header.raw(private):
        keys["DiffusionBValue"] = _key(header, private)
    units = header.text("Units") if header.text("Modality") == "PT" else header.text("RescaleType")
    return [
        _checked(
            header,
            0,
            position=header.numbers("ImagePositionPatient", 3),
            orientation=header.numbers("ImageOrientationPatient", 6),
            spacing=header.numbers("PixelSpacing", 2),
            slope=header.numbers("RescaleSlope", 1),
            intercept=header.numbers("RescaleIntercept", 1),
            thickness=header.numbers("SpacingBetweenSlices") or header.numbers("SliceThickness"),
            units=units,
            keys=keys,
        )
    ]


def _key(header: Header, name: str) -> float | str | tuple[float, ...]:
    """A number where it is one, several numbers, or text."""
    if name in ("ImageType", "AcquisitionTime", "ContentTime"):
        return header.text(name)
    try:
        values = header.numbers(name) or ()
        return values[0] if len(values) == 1 else values
    except DataError:  # it only tells frames apart
        return header.text(name)


def _checked(
    header: Header,
    index: int,
    *,
    position: Values,
    orientation: Values,
    spacing: Values,
    slope: Values,
    intercept: Values,
    thickness: Values,
    units: str,
    keys: dict[str, Any],
    stack: str = "",
) -> Frame:
    """A frame whose place makes sense. Raises: DataError naming file and key."""
    where = f"{header.path}: " + (f"frame {index + 1}: " if header.enhanced else "")
    for name, values in (
        ("ImagePositionPatient", position),
        ("ImageOrientationPatient", orientation),
        ("PixelSpacing", spacing),
    ):
        if values is None:
            raise DataError(f"{where}{name} is missing")
        if not all(map(math.isfinite, values)) or max(map(abs, values)) > 1e7:
            raise DataError(f"{where}{name} is {_shown(values)}, expected finite mm")
    if min(spacing) <= 0:
        raise DataError(f"{where}PixelSpacing is {_shown(spacing)}, expected positive mm")
    a, b, c, d, e, f = orientation
    if (
        abs(a * a + b * b + c * c - 1) > UNIT
        or abs(d * d + e * e + f * f - 1) > UNIT
        or abs(a * d + b * e + c * f) > UNIT
    ):
        raise DataError(
            f"{where}ImageOrientationPatient is {_shown(orientation)}, expected two orthogonal unit vectors"
        )
    factor = 1.0 if slope is None else slope[0]
    offset = 0.0 if intercept is None else intercept[0]
    if not (math.isfinite(factor) and math.isfinite(offset)) or factor == 0:
        raise DataError(f"{where}RescaleSlope, RescaleIntercept are {factor:g}, {offset:g}: no scale")
    return Frame(
        header,
        index,
        position,
        orientation,
        spacing,
        (header.whole("Rows"), header.whole("Columns")),
        factor,
        offset,
        units,
        header.text("SOPInstanceUID"),
        abs(thickness[0]) if thickness else math.nan,
        stack,
        keys,
    )


def _shown(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _enhanced_frames(header: Header) -> list[Frame]:
    """The frames of an enhanced multi-frame object, from its shared and per-frame functional groups."""
    from pydicom import dcmread

    if header.syntax == DEFLATED:  # pydicom would inflate all of it, however much that is
        raise DataError(f"{header.path}: an enhanced multi-frame image in deflated form: not supported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(header.path, stop_before_pixels=True)
            shared = data.get("SharedFunctionalGroupsSequence") or [None]
            frames = data.get("PerFrameFunctionalGroupsSequence") or []
            count = header.whole("NumberOfFrames", 1)
            if len(frames) != count:
                raise DataError(f"{header.path}: NumberOfFrames is {count}, functional groups describe {len(frames)}")
            return [_enhanced_frame(header, i, frame, shared[0], data) for i, frame in enumerate(frames)]
    except DataError:
        raise
    except Exception as error:  # pydicom raises what it likes on damaged sequences
        raise DataError(f"{header.path}: functional groups cannot be read: {_line(error)}") from None


def _enhanced_frame(header: Header, index: int, frame: Any, shared: Any, data: Any) -> Frame:
    def get(group: str, key: str, plain: bool = False) -> Any:
        for level in (frame, shared):
            sequence = level.get(group) if level is not None else None
            if sequence and sequence[0].get(key) not in (None, ""):
                return sequence[0].get(key)
        return data.get(key) if plain else None

    def floats(group: str, key: str, count: int, plain: bool = False) -> tuple[float, ...] | None:
        value = get(group, key, plain)
        if value is None:
            return None
        try:
            values = tuple(map(float, [value] if isinstance(value, str | int | float) else value))
        except (TypeError, ValueError):
            values = ()
        if len(values) != count:
            raise DataError(f"{header.path}: frame {index + 1}: {key} is {str(value)[:40]!r}, expected {count} numbers")
        return values

    keys: dict[str, Any] = {}
    for name, group, key in (
        ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
        ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        ("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue"),
        ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
        ("ImageType", "MRImageFrameTypeSequence", "FrameType"),
        ("ImageType", "CTImageFrameTypeSequence", "FrameType"),
        ("AcquisitionNumber", "FrameContentSequence", "FrameAcquisitionNumber"),
        ("AcquisitionTime", "FrameContentSequence", "FrameAcquisitionDateTime"),
    ):
        value = get(group, key)
        if value is not None:
            keys[name] = float(value) if isinstance(value, int | float) else _text(value)
    diffusion = get("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    if diffusion and diffusion[0].get("DiffusionGradientOrientation"):
        keys["DiffusionGradientOrientation"] = _text(diffusion[0].DiffusionGradientOrientation)
    rescale = "PixelValueTransformationSequence"
    measures = "PixelMeasuresSequence"
    return _checked(
        header,
        index,
        position=floats("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=floats("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        spacing=floats(measures, "PixelSpacing", 2),
        slope=floats(rescale, "RescaleSlope", 1, plain=True),
        intercept=floats(rescale, "RescaleIntercept", 1, plain=True),
        thickness=floats(measures, "SpacingBetweenSlices", 1) or floats(measures, "SliceThickness", 1),
        units=str(get(rescale, "RescaleType", plain=True) or ""),
        stack=str(get("FrameContentSequence", "StackID") or ""),
        keys=keys,
    )


def _text(value: Any) -> str:
    return "\\".join(map(str, value)) if not isinstance(value, str) else value


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
