"""DICOM series: the objects of a folder sorted into series, and series read as volumes in physical values.

`find_objects` reads headers only. What one SeriesInstanceUID holds in several sizes, spacings or orientations becomes
several series; what lies several times at the same places (times, echoes, b-values) becomes several images.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom_files import (
    PLACED,
    RTSTRUCT,
    SEGMENTATIONS,
    TAGS,
    Header,
    NotDicom,
    need_pydicom,
    read_header,
    walk,
    why_no_image,
)
from gen_radiology.dicom_geometry import SAME_ORIENTATION, TIMES, Frame, Grid, frames_of, lay_out, places, resample
from gen_radiology.dicom_pixels import check_size, padding_value, read_frames, same_pixels, stored
from gen_radiology.image import Image

POLICIES = ("refuse", "warn", "resample")
RANKED = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime", "ContentTime")
SHORT = {"TemporalPositionIdentifier": "t", "TriggerTime": "trigger", "DiffusionBValue": "b", "EchoTime": "te",
         "DiffusionGradientOrientation": "g", "EchoNumbers": "echo", "ImageType": "type"}  # fmt: skip
AIR_HU = -1000.0
OF_A_SLICE = {TAGS[name][0] for name in (
    *TIMES, "SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SiemensBValue", "PhilipsBValue"
)}  # fmt: skip


@define(eq=False)
class Series:
    """Frames that belong together. id: readable, unique in its folder. notes: what was told apart.

    problems: files of this series that cannot be used; reading it raises the first.
    """

    id: str
    subject: str
    study_uid: str
    series_uid: str
    modality: str
    description: str
    frames: list[Frame]
    notes: list[str] = Factory(list)
    problems: list[str] = Factory(list)
    number: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file once, in the order of slices."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    @property
    def folder(self) -> Path:
        """The deepest folder that holds every file."""
        return Path(os.path.commonpath([frame.path.parent for frame in self.frames]))

    @property
    def images(self) -> int:
        """How many images `read_series` gives."""
        return len(split_times(self.frames))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of the first image as stored. Raises: DataError."""
        return self._first().shape

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) from voxel (z, y, x, 1) to LPS mm, of the first image as stored. Raises: DataError."""
        return self._first().affine

    def _first(self) -> Grid:
        if self.problems:
            raise DataError(self.problems[0])
        ordered, place = places(split_times(self.frames)[0][1])
        keep = np.diff(place, prepend=-1) > 0
        return lay_out([frame for frame, kept in zip(ordered, keep) if kept])


@define(eq=False)
class DicomFolder:
    """What a folder holds. structures: RTSTRUCT files; segmentations: SEG files; left_out: file and reason."""

    series: list[Series] = Factory(list)
    structures: list[Path] = Factory(list)
    segmentations: list[Path] = Factory(list)
    left_out: list[tuple[Path, str]] = Factory(list)


def find_series(root: Path) -> list[Series]:
    """The image series below a folder (or of one file), by subject and series number. Raises: MissingError."""
    return find_objects(root).series


def find_objects(root: Path) -> DicomFolder:
    """Everything below a folder (or one file), told apart from headers.

    Raises: MissingError without pydicom, DataError if there is no such path.
    """
    need_pydicom()
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    found = DicomFolder()
    groups: dict[tuple[str, ...], list[tuple[Header, list[Frame], str]]] = {}
    shared: dict[Any, Any] = {}
    for path in walk(root):
        try:
            header = read_header(path)
            sop, modality = header.text("SOPClassUID"), header.text("Modality")
            if sop == RTSTRUCT or not sop and modality == "RTSTRUCT":
                found.structures.append(path)
                continue
            if sop in SEGMENTATIONS or not sop and modality == "SEG":
                found.segmentations.append(path)
                continue
            why = why_no_image(header)
        except NotDicom:
            found.left_out.append((path, "not DICOM"))
            continue
        except DataError as error:
            found.left_out.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        if why:
            found.left_out.append((path, why))
            continue
        try:
            frames, problem = frames_of(header), ""
            check_size(header)
            if header.damage:
                raise DataError(f"{path}: {header.damage}")
        except DataError as error:
            if modality not in PLACED:
                found.left_out.append((path, str(error).removeprefix(f"{path}: ")))
                continue
            frames, problem = [], str(error)
        key = (
            subject_of(header),
            header.text("StudyInstanceUID"),
            header.text("SeriesInstanceUID") or str(path.parent),
        )
        groups.setdefault(key, []).append((header, frames, problem))
        _share(header, frames, shared)
    for (subject, study, uid), members in groups.items():
        found.series += _series_of(subject, study, uid, members)
    found.series.sort(key=lambda s: (s.subject, s.study_uid, s.number, s.series_uid))
    _name(found.series)
    return found


def _share(header: Header, frames: list[Frame], shared: dict[Any, Any]) -> None:
    """One copy of what the slices of a series have in common: archives hold hundreds of thousands of them."""
    common = tuple(pair for pair in header.elements.items() if pair[0] not in OF_A_SLICE)
    header.elements = shared.setdefault(common, dict(common))
    for frame in frames:
        frame.orientation = shared.setdefault(frame.orientation, frame.orientation)
        frame.spacing = shared.setdefault(frame.spacing, frame.spacing)


def subject_of(header: Header) -> str:
    """PatientID, else a hash of the name, else the folder."""
    name = header.raw("PatientName").strip(b" \0^")
    hashed = "name-" + hashlib.sha256(name).hexdigest()[:12] if name else ""
    return header.text("PatientID") or hashed or header.path.resolve().parent.name


def _series_of(subject: str, study: str, uid: str, members: list[tuple[Header, list[Frame], str]]) -> list[Series]:
    """One series for every size, spacing, stack and orientation under a SeriesInstanceUID."""
    parts: list[list[Frame]] = []
    for _, frames, _ in members:
        for frame in frames:
            part = next((p for p in parts if _belongs(frame, p[0])), None)
            if part is None:
                parts.append([frame])
            else:
                part.append(frame)
    problems = [problem for _, _, problem in members if problem]
    head = members[0][0]
    number = head.text("SeriesNumber")
    modality, description = head.text("Modality"), head.text("SeriesDescription")
    order = int(number) if re.fullmatch("[0-9]{1,9}", number) else 0
    base = "-".join(filter(None, (subject, modality, f"s{number}" if number else "", description)))
    base = re.sub(r"[^A-Za-z0-9._]+", "-", base).strip("-.")[:80] or "series"
    if not parts:
        header, _, problem = members[0]
        parts = [[Frame(header, 0, (0,) * 3, (1, 0, 0, 0, 1, 0), (1, 1), (1, 1), 1, 0, "", "", 1)]]
    parts.sort(key=lambda part: -len(part))
    notes = []
    if len(parts) > 1:
        counts = ", ".join(f"{len(part)} of {part[0].size[0]} x {part[0].size[1]} {plane(part[0])}" for part in parts)
        notes.append(f"one SeriesInstanceUID holds frames that cannot be stacked together: {counts}")
    return [
        Series(
            base + (f"-part{i + 1}" if i else ""), subject, study, uid, modality, description,
            [part[j] for j in _order(part)], list(notes), problems, order,
        )
        for i, part in enumerate(parts)
    ]  # fmt: skip


def _belongs(frame: Frame, other: Frame) -> bool:
    return (
        frame.size == other.size
        and frame.stack == other.stack
        and (frame.spacing == other.spacing or np.allclose(frame.spacing, other.spacing, rtol=1e-3, atol=0))
        and (
            frame.orientation == other.orientation
            or max(abs(a - b) for a, b in zip(frame.orientation, other.orientation)) < SAME_ORIENTATION
        )
    )


def _order(frames: list[Frame]) -> list[int]:
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    return np.argsort(np.array([f.position for f in frames]) @ normal, kind="stable").tolist()


def plane(frame: Frame) -> str:
    """The plane a frame is nearest to."""
    normal = np.abs(np.cross(frame.orientation[:3], frame.orientation[3:]))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]


def _name(series: list[Series]) -> None:
    """Make ids unique: those that collide get a hash of their UIDs."""
    count: dict[str, int] = {}
    for one in series:
        count[one.id] = count.get(one.id, 0) + 1
    seen: dict[str, int] = {}
    for one in series:
        if count[one.id] > 1:
            uids = f"{one.subject}\n{one.study_uid}\n{one.series_uid}"
            one.id += "-" + hashlib.sha256(uids.encode()).hexdigest()[:8]
        seen[one.id] = seen.get(one.id, 0) + 1
        if seen[one.id] > 1:
            one.id += f"-{seen[one.id]}"


def split_times(frames: list[Frame]) -> list[tuple[dict[str, Any], list[Frame]]]:
    """Frames that share places, parted by the first key that tells whole stacks apart: (what it was, frames) each.

    Keys are tried in the order of TIMES, several one after the other (echo, then time). Times that differ from slice
    to slice part by their rank at each place. What no key tells apart stays together: duplicates.
    """
    ordered, place = places(frames)
    counts = np.bincount(place)
    if counts.max() == 1:
        return [({}, ordered)]
    for name in TIMES:
        groups: dict[Any, list[int]] = {}
        for i, frame in enumerate(ordered):
            groups.setdefault(frame.keys.get(name), []).append(i)
        covered = min(len(set(place[part])) for part in groups.values())
        if len(groups) > 1 and 2 * covered > len(counts):
            values = sorted(groups, key=lambda v: (isinstance(v, str), str(type(v)), v if v is not None else 0))
            return [
                ({name: value, **more}, part)
                for value in values
                for more, part in split_times([ordered[i] for i in groups[value]])
            ]
    if counts.min() == counts.max() and len(counts) > 1:
        for name in RANKED:
            ranks: list[list[Frame]] = [[] for _ in range(counts.max())]
            for p in range(len(counts)):
                here = [ordered[i] for i in np.flatnonzero(place == p)]
                values = [frame.keys.get(name) for frame in here]
                if None in values or len(set(values)) < len(values) or len({type(v) for v in values}) > 1:
                    break
                for rank, frame in zip(ranks, sorted(here, key=lambda f: f.keys[name])):
                    rank.append(frame)
            else:
                return [({f"rank of {name}": i + 1}, rank) for i, rank in enumerate(ranks)]
    return [({}, ordered)]


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
