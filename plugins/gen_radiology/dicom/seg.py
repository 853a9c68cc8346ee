"""DICOM SEG: each segment's frames placed on an image's grid by their position and orientation.

Binary, fractional (inside from half of the maximum on) and label-map segmentations; frames may be few, in any order,
overlap between segments, be cropped, mirrored or stacked the other way.
Source: DICOM PS3.3 C.8.20.2 (Segmentation Image), C.7.6.16.2.3 and .4 (plane position and orientation);
PS3.5 8.1.1 and annex D (one bit a voxel: frames follow one another without padding).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define

from gen_core.errors import DataError
from gen_radiology.dicom.files import SEGMENTATIONS
from gen_radiology.dicom.read_object import damage_named, one_line, read_object
from gen_radiology.volumes.image import Image, MaskSet
from gen_radiology.volumes.placing import find_window, resample_nearest

FRAME_LIMIT = 1 << 26  # voxels a frame; keeps a damaged header from asking for all memory
STACK_LIMIT = 1 << 30  # voxels of frames that are resampled together


@define(eq=False)
class Frame:
    """Where a frame lies: affine of its (z = 0, y, x) to LPS mm, None without a position; segment 0: label map."""

    affine: np.ndarray | None
    segment: int


def segmentation_masks(
    path: Path | str, image: Image, threshold: float = 0.5, resample: bool = False, names: Any = None
) -> MaskSet:
    """The segments of a SEG as masks on an image's grid, named by their labels.

    threshold: share of the maximum from which on a fractional voxel is inside. Frames whose voxels lie between the
    image's (by more than a tenth) are left out and noted, or with resample taken by nearest voxel. A segment without
    frames is empty; one that has frames, but none on the image, gives no mask.
    names: RoiNames; segments that share a standard name are united.
    meta["segments"]: per mask the numbers, labels, frames, and frames placed.
    Raises: DataError naming the file, MissingError without pydicom.
    """
    path = Path(path)
    with damage_named(path):
        data = read_object(path)
        if str(data.get("SOPClassUID", "")) not in SEGMENTATIONS:
            raise DataError(f"{path}: not a DICOM SEG (modality '{one_line(data.get('Modality', ''))}')")
        return _masks(path, data, image, threshold, resample, names)


def _masks(path: Path, data: Any, image: Image, threshold: float, resample: bool, names: Any) -> MaskSet:
    kind = str(data.get("SegmentationType", "") or "BINARY").upper()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise DataError(
            f"{path}: key 'SegmentationType' is '{one_line(kind)}', expected BINARY, FRACTIONAL or LABELMAP"
        )
    found = MaskSet()
    labels = _labels(path, data, found.notes)
    given = _mask_names(labels, names, found.notes)
    frames = _frames(path, data, kind)
    level: float = 1
    if kind == "FRACTIONAL":
        level = threshold * float(data.get("MaximumFractionalValue", 255))
        what = one_line(data.get("SegmentationFractionalType", "") or "fraction").lower()
        found.notes.append(f"{path.name}: fractional ({what}): inside where at least {threshold:g} of the maximum")
    frame_uid = str(image.meta.get("frame_of_reference_uid", "") or "")
    if frame_uid and str(data.get("FrameOfReferenceUID", "") or frame_uid) != frame_uid:
        told = f"in another frame of reference than {image.id}: placed by position all the same"
        found.notes.append(f"{path.name}: {told}")
    masks = {number: np.zeros(image.array.shape, bool) for number in labels}
    count: dict[str, Counter[int]] = defaultdict(Counter)
    elsewhere: dict[int, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for frame, values in zip(frames, _pixels(path, data, len(frames))):
        if kind == "LABELMAP":
            here = {int(v): values == v for v in np.unique(values) if v != int(data.get("PixelPaddingValue", 0))}
        else:
            here = {frame.segment: values >= level}
        for number, inside in here.items():
            if number not in labels:
                count["not described"][number] += 1
                continue
            count["all"][number] += 1
            if frame.affine is None:
                count["without a plane position"][number] += 1
                continue
            window = find_window((1, *inside.shape), frame.affine, image)
            if window is None:
                elsewhere[number].append((inside, frame.affine))
                continue
            kept, outside = window.put(inside[None], masks[number])
            count["outside the image" if outside and not kept else "placed"][number] += 1
            count["cut off at the image's edge"][number] += bool(outside and kept)
    for number, others in elsewhere.items():
        if resample:
            masks[number] |= _resampled(path, others, image)
            count["placed"][number] += len(others)
            told = "resampled to the nearest voxel"
        else:
            told = "left out (resampling to the nearest voxel is an option)"
        found.notes.append(f"segment '{labels[number]}': {len(others)} frames on another grid than {image.id}: {told}")
    for number, n in count["not described"].items():
        found.notes.append(f"{path.name}: {n} frames of segment {number}, which is not described: left out")
    _collect(found, labels, given, masks, count)
    return found


def _collect(
    found: MaskSet,
    labels: dict[int, str],
    given: dict[int, str],
    masks: dict[int, np.ndarray],
    count: dict[str, Counter[int]],
) -> None:
    """Masks under their names, what became of each segment's frames, and the facts of meta["segments"].

    A segment without any frame is empty (empty frames are not stored); one whose frames all lie elsewhere is unknown.
    """
    for reason in ("without a plane position", "outside the image", "cut off at the image's edge"):
        for number, n in count[reason].items():
            if n:
                found.notes.append(f"segment '{labels[number]}': {n} of {count['all'][number]} frames {reason}")
    facts: dict[str, Any] = {}
    for number, label in labels.items():
        name, frames, placed = given[number], count["all"][number], count["placed"][number]
        fact = facts.setdefault(name, {"numbers": [], "labels": [], "frames": 0, "placed": 0})
        fact["numbers"].append(number)
        fact["labels"].append(label)
        fact["frames"] += frames
        fact["placed"] += placed
        if placed or not (frames or count["not described"]):
            found.masks[name] = found.masks[name] | masks[number] if name in found.masks else masks[number]
        else:
            found.notes.append(f"segment '{label}': none of its frames lies on the image: no mask")
    found.meta["segments"] = facts


def _labels(path: Path, data: Any, notes: list[str]) -> dict[int, str]:
    """Segment number -> label."""
    labels: dict[int, str] = {}
    for item in data.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        if number in labels:
            notes.append(f"{path.name}: segment number {number} is described twice: the first label is kept")
            continue
        labels[number] = one_line(item.get("SegmentLabel", "") or "") or f"segment-{number}"
    if not labels:
        raise DataError(f"{path}: key 'SegmentSequence' is missing or empty: no segment is described")
    if str(data.get("SegmentationType", "")).upper() == "LABELMAP":
        labels.pop(int(data.get("PixelPaddingValue", 0)), None)  # the background may be described too
    return labels


def _mask_names(labels: dict[int, str], names: Any, notes: list[str]) -> dict[int, str]:
    """Segment number -> name of its mask; labels that are given twice are told apart by their number."""
    if names is not None:
        standard, told = names.standardize(labels.values())
        notes += told
        return {number: standard[label] for number, label in labels.items()}
    count = Counter(labels.values())
    notes += [f"{n} segments are called '{label}': told apart by their number" for label, n in count.items() if n > 1]
    return {number: f"{label} #{number}" if count[label] > 1 else label for number, label in labels.items()}


def _frames(path: Path, data: Any, kind: str) -> list[Frame]:
    """Where each frame lies and what it shows, from the shared and per-frame functional groups."""
    frames = list(data.get("PerFrameFunctionalGroupsSequence") or ())
    number = int(data.get("NumberOfFrames", 1) or 1)
    if len(frames) != number:
        raise DataError(
            f"{path}: key 'NumberOfFrames' is {number}, 'PerFrameFunctionalGroupsSequence' has {len(frames)} items"
        )
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]

    def group(frame: Any, sequence: str, key: str) -> Any:
        for where in (frame, shared):
            items = where.get(sequence)
            if items and items[0].get(key) is not None:
                return items[0].get(key)
        return None

    out = []
    for frame in frames:
        position = group(frame, "PlanePositionSequence", "ImagePositionPatient")
        orientation = group(frame, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = group(frame, "PixelMeasuresSequence", "PixelSpacing")
        segment = group(frame, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if segment is None and kind != "LABELMAP":
            raise DataError(f"{path}: key 'ReferencedSegmentNumber' is missing for frame {len(out) + 1}")
        known = position is not None and orientation is not None and spacing is not None
        affine = _plane(position, orientation, spacing) if known else None
        out.append(Frame(affine, int(segment or 0)))
    return out


def _plane(position: Any, orientation: Any, spacing: Any) -> np.ndarray | None:
    """(4, 4) of a plane: columns normal (1 mm), down the rows, along the columns, position; None when not usable."""
    row, column = np.array(orientation[:3], np.float64), np.array(orientation[3:6], np.float64)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(row, column)
    affine[:3, 1] = column * float(spacing[0])  # PixelSpacing: between rows, then between columns
    affine[:3, 2] = row * float(spacing[1])
    affine[:3, 3] = np.array(position, np.float64)
    usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
    return affine if usable else None


def _pixels(path: Path, data: Any, frames: int) -> Iterator[np.ndarray]:
    """(rows, columns) of each frame as stored. Raises: DataError where the header promises more than there is."""
    rows, columns = int(data.get("Rows", 0)), int(data.get("Columns", 0))
    bits = int(data.get("BitsAllocated", 0))
    if not 0 < rows * columns <= FRAME_LIMIT:
        raise DataError(f"{path}: keys 'Rows', 'Columns' are {rows}, {columns}: no frame of that size can be read")
    if int(data.get("SamplesPerPixel", 1)) != 1 or bits not in (1, 8, 16):
        raise DataError(f"{path}: key 'BitsAllocated' is {bits}, expected 1, 8 or 16 of one sample")
    pixels = data.get("PixelData")
    if pixels is None:
        raise DataError(f"{path}: key 'PixelData' is missing")
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        from pydicom.pixels import iter_pixels

        n = 0
        for n, values in enumerate(iter_pixels(data), 1):  # noqa: B007
            yield values
        if n != frames:
            raise DataError(f"{path}: key 'PixelData' has {n} frames, the header says {frames}")
        return
    size = rows * columns
    need = math.ceil(frames * size * bits / 8)
    if len(pixels) < need:
        raise DataError(f"{path}: key 'PixelData' has {len(pixels)} bytes, {frames} frames need {need} (cut off?)")
    if bits == 1:
        stored = np.frombuffer(pixels, np.uint8)
        for i in range(frames):  # a frame may begin within a byte
            start, stop = i * size, (i + 1) * size
            packed = np.unpackbits(stored[start // 8 : -(-stop // 8)], bitorder="little")
            yield packed[start % 8 : start % 8 + size].reshape(rows, columns)
        return
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    stored = np.frombuffer(pixels, f"{order}u{bits // 8}", frames * size).reshape(frames, rows, columns)
    yield from stored


def _resampled(path: Path, frames: list[tuple[np.ndarray, np.ndarray]], image: Image) -> np.ndarray:
    """Frames of one segment stacked along their normal, by the nearest voxel on the image's grid.

    Frames over the same part of parallel planes make a stack; the smallest gap between two of them is the step (of a
    single frame: the image's step along its normal), and slices that are not stored are empty.
    """
    out = np.zeros(image.array.shape, bool)
    stacks: dict[tuple, list[tuple[float, np.ndarray, np.ndarray]]] = defaultdict(list)
    for inside, affine in frames:
        normal = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
        height = affine[:3, 3] @ normal
        corner = affine[:3, 3] - height * normal
        key = (inside.shape, np.round(affine[:3, :3], 4).tobytes(), (np.round(corner, 1) + 0.0).tobytes())
        stacks[key].append((height, inside, affine))
    for (shape, *_), stack in stacks.items():
        stack.sort(key=lambda found: found[0])
        heights = np.array([height for height, *_ in stack])
        base = stack[0][2].copy()
        normal = base[:3, 0] / np.linalg.norm(base[:3, 0])
        gaps = np.diff(heights)
        gaps = gaps[gaps > 1e-2]
        step = float(gaps.min()) if len(gaps) else float(np.abs(normal @ image.affine[:3, :3]).max())
        levels = np.rint((heights - heights[0]) / step).astype(int)
        if (levels[-1] + 1) * math.prod(shape) > STACK_LIMIT:
            raise DataError(f"{path}: key 'ImagePositionPatient': frames {heights[-1] - heights[0]:.0f} mm apart")
        volume = np.zeros((levels[-1] + 1, *shape), bool)
        for level, (_, inside, _) in zip(levels, stack):
            volume[level] |= inside
        base[:3, 0] = normal * step
        out |= resample_nearest(volume, base, image)
    return out
