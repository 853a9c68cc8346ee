"""RTSTRUCT: regions of interest as contours in the patient, and their masks on an image's grid.

Contours find their slice by geometry; the image UIDs they name help where they are known and are not needed.
Whatever cannot be drawn is told in the notes: nothing disappears in silence.
Source: DICOM PS3.3 C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour), C.8.8.8 (RT ROI Observations).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dicom.contours import fill_even_odd
from gen_radiology.dicom.files import RTSTRUCT
from gen_radiology.dicom.read_object import damage_named, one_line, read_object
from gen_radiology.dicom.roi_names import RoiNames
from gen_radiology.volumes.image import Image, MaskSet

FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
SLICE_TOLERANCE = 0.25  # slice distances between a contour's plane and the slice it is drawn on
UID_TOLERANCE = 0.5  # the same, where the contour names that slice's image
SAME_PLANE = 0.02  # slice distances: contours nearer than this lie on one plane
TILT_TOLERANCE = 0.5  # slice distances between the highest and the lowest point of a contour


@define(eq=False)
class Contour:
    """points: (n, 3) float64 LPS mm. kind: the geometric type. sop_uid: the image it was drawn on, "" if unknown."""

    points: np.ndarray
    kind: str = "CLOSED_PLANAR"
    sop_uid: str = ""


@define(eq=False)
class Roi:
    """number: as in the file. interpreted_type: "GTV", "ORGAN", ... or ""."""

    number: int
    name: str
    interpreted_type: str = ""
    contours: list[Contour] = Factory(list)
    frame_of_reference_uid: str = ""


@define(eq=False)
class Structures:
    """The regions of one RTSTRUCT; warnings: one line each."""

    path: Path
    rois: list[Roi]
    subject: str = ""
    study_uid: str = ""
    series_uids: tuple[str, ...] = ()  # of the images it was drawn on
    warnings: list[str] = Factory(list)


def read_rtstruct(path: Path | str) -> Structures:
    """The regions of a file, in its order. Raises: DataError naming the file, MissingError without pydicom."""
    path = Path(path)
    with damage_named(path):
        data = read_object(path)
        if str(data.get("SOPClassUID", "")) != RTSTRUCT:
            raise DataError(f"{path}: not an RTSTRUCT (modality '{one_line(data.get('Modality', ''))}')")
        return _structures(path, data)


def _structures(path: Path, data: Any) -> Structures:
    told: list[str] = []
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType", "") or "")
        for item in data.get("RTROIObservationsSequence") or ()
        if item.get("ReferencedROINumber") is not None
    }
    rois: dict[int, Roi] = {}
    for item in data.get("StructureSetROISequence") or ():
        number = int(item.ROINumber)
        if number in rois:
            told.append(f"{path.name}: ROI number {number} is given twice: the first name is kept")
            continue
        name = one_line(item.get("ROIName", "") or "") or f"ROI {number}"
        frame = str(item.get("ReferencedFrameOfReferenceUID", "") or "")
        rois[number] = Roi(number, name, kinds.get(number, ""), [], frame)
    for item in data.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        if number not in rois:
            told.append(f"{path.name}: contours of ROI number {number}, which has no name: called 'ROI {number}'")
            rois[number] = Roi(number, f"ROI {number}", kinds.get(number, ""))
        for contour in item.get("ContourSequence") or ():
            points = _points(contour)
            if points is None:
                told.append(f"{path.name}: ROI '{rois[number].name}': a contour without whole x, y, z: left out")
                continue
            kind = one_line(contour.get("ContourGeometricType", "") or "CLOSED_PLANAR")
            images = contour.get("ContourImageSequence") or ()
            uid = str(images[0].get("ReferencedSOPInstanceUID", "") or "") if len(images) else ""
            rois[number].contours.append(Contour(points, kind, uid))
    if not rois:
        told.append(f"{path.name}: no region of interest in this RTSTRUCT")
    series = [
        str(s.get("SeriesInstanceUID", "") or "")
        for frame in data.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for s in study.get("RTReferencedSeriesSequence") or ()
    ]
    uids = tuple(dict.fromkeys(s for s in series if s))
    subject, study = (str(data.get(key, "") or "") for key in ("PatientID", "StudyInstanceUID"))
    return Structures(path, list(rois.values()), subject, study, uids, told)


def _points(contour: Any) -> np.ndarray | None:
    """(n, 3) LPS mm of a contour item; None when the numbers are not whole triples of finite numbers."""
    if "ContourData" not in contour:
        return None
    value = contour.get_item("ContourData").value
    try:  # straight from the bytes: pydicom would make an object of each of a million numbers
        numbers = value.rstrip(b"\0 ").split(b"\\") if isinstance(value, bytes) else value or ()
        points = np.fromiter(map(float, numbers), np.float64).reshape(-1, 3)
    except (ValueError, TypeError):
        return None
    return points if len(points) and np.isfinite(points).all() else None


def structure_masks(structures: Structures, image: Image, names: RoiNames | None = None) -> MaskSet:
    """The regions as masks on an image's grid, by even-odd filling of each slice (see contours.py).

    A contour is drawn on the slice whose plane is within 0.25 slice distances of it (0.5 where it names that slice's
    image); of several planes that near to one slice only the nearest is drawn. Contours between slices, off the
    grid, tilted against the slices, open or of single points are not drawn and told in the notes; a contour of an
    oblique series is projected along the stack onto its slice. A region of which nothing is drawn gives no mask.
    names: standard names; regions that share one are united, with a note.
    meta["rois"]: per mask the numbers, names and types of its regions, contours drawn and points set as markers.
    """
    found = MaskSet(notes=list(structures.warnings))
    frame = str(image.meta.get("frame_of_reference_uid", "") or "")
    others = {r.frame_of_reference_uid for r in structures.rois} - {"", frame}
    if frame and others:
        told = f"in another frame of reference than {image.id}: placed by position all the same"
        found.notes.append(f"{structures.path.name}: {told}")
    given, told = _names(structures.rois, names)
    found.notes += told
    slices = {uid: k for k, uid in enumerate(image.slice_uids) if uid}
    facts: dict[str, Any] = {}
    for roi in structures.rois:
        mask, drawn, points = roi_mask(roi, image, slices, found.notes)
        name = given[roi.number]
        fact = facts.setdefault(name, {"numbers": [], "names": [], "types": [], "contours": 0, "points_mm": []})
        fact["numbers"].append(roi.number)
        fact["names"].append(roi.name)
        fact["types"].append(roi.interpreted_type)
        fact["contours"] += drawn
        fact["points_mm"] += points
        if drawn:
            found.masks[name] = found.masks[name] | mask if name in found.masks else mask
    found.meta["rois"] = facts
    return found


def _names(rois: Sequence[Roi], names: RoiNames | None) -> tuple[dict[int, str], list[str]]:
    """ROI number -> name of its mask, and notes."""
    if names is not None:
        standard, told = names.standardize([r.name for r in rois])
        return {r.number: standard[r.name] for r in rois}, told
    count = Counter(r.name for r in rois)
    doubles = [name for name, n in count.items() if n > 1]
    told = [f"{count[name]} ROIs are called '{name}': told apart by their number" for name in doubles]
    return {r.number: f"{r.name} #{r.number}" if r.name in doubles else r.name for r in rois}, told


def roi_mask(
    roi: Roi, image: Image, slices: dict[str, int], notes: list[str]
) -> tuple[np.ndarray, int, list[list[float]]]:
    """(z, y, x) mask of one region, the number of contours drawn, and the single points it has in LPS mm."""
    depth, rows, columns = image.array.shape
    left_out: dict[str, list[float]] = defaultdict(list)  # reason -> where, z in LPS mm
    planes: dict[int, list[tuple[float, np.ndarray]]] = defaultdict(list)
    points: list[list[float]] = []
    sticking_out = misplaced = 0
    for contour in roi.contours:
        where = float(contour.points[:, 2].mean())
        if contour.kind == "POINT":
            points += contour.points.tolist()
            left_out["single points"].append(where)
            continue
        if contour.kind not in FILLED:
            left_out[f"open contours ({contour.kind})"].append(where)
            continue
        if len(contour.points) < 3:
            left_out["contours of fewer than three points"].append(where)
            continue
        index = image.to_index(contour.points)
        z = index[:, 0]
        if np.ptp(z) > TILT_TOLERANCE:
            left_out["contours on planes tilted against the slices"].append(where)
            continue
        plane = float(z.mean())
        named = slices.get(contour.sop_uid)
        k = named if named is not None and abs(plane - named) <= UID_TOLERANCE else round(plane)
        if not -UID_TOLERANCE <= plane <= depth - 1 + UID_TOLERANCE or not 0 <= k < depth:
            left_out["contours outside the stack"].append(where)
        elif abs(plane - k) > (UID_TOLERANCE if k == named else SLICE_TOLERANCE):
            left_out["contours between slices"].append(where)
        else:
            low, high = index[:, 1:].min(0), index[:, 1:].max(0)
            edge = np.array([rows, columns]) - 0.5
            if (high < -0.5).any() or (low > edge).any():
                left_out["contours beside the slices"].append(where)
                continue
            sticking_out += bool((low < -0.5).any() or (high > edge).any())
            misplaced += named is not None and named != k
            planes[k].append((plane - k, index[:, 1:]))
    mask, drawn = np.zeros(image.array.shape, bool), 0
    for k, found in planes.items():
        nearest = min((offset for offset, _ in found), key=abs)
        here = [polygon for offset, polygon in found if abs(offset - nearest) <= SAME_PLANE]
        mask[k] = fill_even_odd(here, (rows, columns))
        drawn += len(here)
        for offset, _ in found:
            if abs(offset - nearest) > SAME_PLANE:
                z_mm = (image.affine @ [k + offset, rows / 2, columns / 2, 1])[2]
                left_out["contours farther from a slice than others of it"].append(float(z_mm))
    total = len(roi.contours)
    if not total:
        notes.append(f"ROI '{roi.name}' has no contours: no mask")
    for reason, z_mm in left_out.items():
        listed = ", ".join(f"{v:.2f}" for v in sorted(set(z_mm))[:6]) + (", ..." if len(set(z_mm)) > 6 else "")
        notes.append(f"ROI '{roi.name}': {len(z_mm)} of {total} not drawn: {reason} (z = {listed} mm)")
    if total and not drawn:
        notes.append(f"ROI '{roi.name}': none of its contours lies on the image: no mask")
    if drawn and not mask.any():
        notes.append(f"ROI '{roi.name}': no voxel centre lies inside its contours: the mask is empty")
    if misplaced:
        notes.append(f"ROI '{roi.name}': {misplaced} contours name the image of another slice: placed by position")
    if sticking_out:
        notes.append(f"ROI '{roi.name}': {sticking_out} contours reach beyond the slices: cut off at the edge")
    return mask, drawn, points
