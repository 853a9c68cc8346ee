"""The objects of a folder sorted into series, from headers alone.

What one SeriesInstanceUID holds in several sizes, spacings or orientations becomes several series.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.elements import TAGS
from gen_radiology.dicom.files import PLACED, RTSTRUCT, SEGMENTATIONS, walk, why_no_image
from gen_radiology.dicom.frames import SAME_ORIENTATION, TIMES, Frame, frames_of
from gen_radiology.dicom.header import Header, NotDicom, read_header
from gen_radiology.dicom.read_object import need_pydicom
from gen_radiology.dicom.series import Series
from gen_radiology.dicom.stored_pixels import check_size

OF_A_SLICE = {TAGS[name][0] for name in (
    *TIMES, "SOPInstanceUID", "InstanceNumber", "ImagePositionPatient", "SiemensBValue", "PhilipsBValue"
)}  # fmt: skip


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
