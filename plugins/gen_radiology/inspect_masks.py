"""Facts of radiological images and of masks on them: geometry, values and hash, voxels by mask.

Conventions: axes (z, y, x), z rising along row x col; origin and directions in LPS mm; values with the rescale
applied; NIfTI as nibabel has it, (i, j, k[, t]). `sha_f32` as in gen_core.inspect.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_core.inspect import describe, statistics
from gen_radiology.image import Image, MaskSet

LOOKED_AT = 200  # files of a folder that tell whether it is radiological


@define
class MaskFile:
    """One file of masks. kind: "structures", "segmentation", "labels" or "readings". opened: what it was read as.

    series_uids: of the images it was drawn on, as far as it says.
    """

    path: Path
    kind: str
    series_uids: tuple[str, ...] = ()
    study_uid: str = ""
    subject: str = ""
    opened: Any = None


@define
class MaskFiles:
    """The mask files of some paths, and what else lies there: (file, reason)."""

    files: list[MaskFile] = Factory(list)
    left_out: list[tuple[Path, str]] = Factory(list)


def recognizes(path: Path) -> bool:
    """Whether a file, or one of the first files of a folder, is DICOM or NIfTI; never raises."""
    from gen_radiology.dicom_files import walk

    try:
        files = itertools.islice(walk(path), LOOKED_AT) if path.is_dir() else [path]
        return any(is_image_file(file) for file in files)
    except OSError:
        return False


def is_image_file(path: Path) -> bool:
    """Whether a file is DICOM or NIfTI."""
    from gen_radiology.dicom_files import is_dicom

    return is_nifti(path) or path.is_file() and is_dicom(path)


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI."""
    from gen_radiology.read_nifti import NiftiFiles

    return NiftiFiles().recognizes(path)


def inspect(path: Path, masks: Sequence[Path] = (), geometry: str = "refuse") -> list[dict[str, Any]]:
    """Facts of every image of a file or folder, with voxels of those masks that belong to it. Raises: DataError."""
    beside = find_masks(masks)
    if is_nifti(path):
        return [_nifti_facts(path, beside)]
    from gen_radiology.dicom_series import find_objects, read_series

    folder = find_objects(path)
    others = [file for file, _ in folder.left_out if is_nifti(file)]
    if not folder.series and not others:
        why = "; ".join(f"{file.name}: {reason}" for file, reason in folder.left_out[:3])
        raise DataError(f"{path}: holds no image{f' ({why})' if why else ''}")
    known = {series.series_uid for series in folder.series}
    order = sorted({series.subject for series in folder.series})
    subjects = {subject: f"subject-{k + 1:04d}" for k, subject in enumerate(order)}
    found: list[dict[str, Any]] = []
    for series in folder.series:  # one after the other: a folder may hold more than memory does
        belonging = [file for file in beside.files if belongs(file, series.series_uid, known)]
        alone = len(folder.series) == 1 and not others
        try:
            images = read_series(series, geometry)
        except DataError as error:
            if alone:
                raise
            found.append(
                {
                    "file": str(series.folder),
                    "reader": "dicom",
                    "id": f"series-{len(found) + 1}",
                    "error": str(error).replace(series.id, "this series"),
                }
            )
            continue
        for image in images:
            # numbers in the place of PatientID and description: this is printed, and kept in logs
            image.id, image.subject = f"{image.modality.lower()}-{len(found) + 1}", subjects[image.subject]
            found.append(facts(image, draw(belonging, image, alone=alone) if belonging else None))
    found += [_nifti_facts(file, MaskFiles()) for file in others]
    notes = found[0].setdefault("mask_notes", [])
    notes += [f"{file.name}: {why}" for file, why in beside.left_out]
    return found


def facts(image: Image, masks: MaskSet | None = None) -> dict[str, Any]:
    """Geometry, values, hash and masks of an image, as JSON."""
    where = image.files[0] if len(image.files) == 1 else image.files[0].parent if image.files else ""
    return {
        "file": str(where),
        "reader": "dicom" if image.slice_uids or not str(where).lower().endswith((".nii", ".nii.gz")) else "nifti",
        "id": image.id,
        "subject": image.subject,
        "modality": image.modality,
        "units": image.units,
        "files": len(image.files),
        "shape": list(image.array.shape),
        "axes": "zyx",
        **geometry_facts(image),
        **statistics(image.array),
        "masks": {name: mask_facts(mask, image) for name, mask in masks.masks.items()} if masks else {},
        "mask_notes": list(masks.notes) if masks else [],
        "warnings": list(image.warnings),
    }


def geometry_facts(image: Image) -> dict[str, Any]:
    """spacing_mm of z, y, x; origin_mm of the first voxel and directions in LPS."""
    numbers = lambda values: [float(f"{v + 0.0:.9g}") for v in values]
    return {
        "spacing_mm": numbers(image.spacing),
        "origin_mm": numbers(image.origin),
        "directions": {axis: numbers(image.directions[:, k]) for k, axis in enumerate("zyx")},
    }


def mask_facts(mask: np.ndarray, image: Image) -> dict[str, Any]:
    """Voxels, volume, place, mean value inside and hash of a mask (z, y, x)."""
    voxels = int(np.count_nonzero(mask))
    digest = hashlib.sha256()
    for part in mask:
        digest.update(np.ascontiguousarray(part, "<f4"))
    told: dict[str, Any] = {
        "voxels": voxels,
        "volume_mm3": voxels * abs(float(np.linalg.det(image.affine[:3, :3]))),
        "sha_f32": digest.hexdigest(),
    }
    if not voxels:
        return {**told, "slices": 0}
    index = np.nonzero(mask)
    values = image.array[mask].astype(np.float64)
    values = values[np.isfinite(values)]
    return {
        **told,
        "slices": len(np.unique(index[0])),
        "bbox_zyx": [[int(axis.min()), int(axis.max())] for axis in index],
        "centroid_zyx": [round(float(axis.mean()), 3) for axis in index],
        "mean": float(values.mean()) if values.size else None,
    }


def _nifti_facts(path: Path, beside: MaskFiles) -> dict[str, Any]:
    from gen_radiology.read_nifti import NiftiFiles, read_images

    described = describe(NiftiFiles().open(path))
    image = read_images(path)[0]
    masks = draw(beside.files, image, alone=True) if beside.files else None
    meta, warnings = described.pop("meta"), described.pop("warnings")
    shown = {k: v for k, v in described.items() if k not in ("wavelength_nm", "bad_bands", "nodata")}
    return {
        "file": str(path),
        "reader": "nifti",
        **shown,
        **geometry_facts(image),
        "masks": {name: mask_facts(mask, image) for name, mask in masks.masks.items()} if masks else {},
        "mask_notes": (masks.notes if masks else []) + [f"{file.name}: {why}" for file, why in beside.left_out],
        "warnings": warnings,
        "meta": meta,
    }


def find_masks(paths: Sequence[Path]) -> MaskFiles:
    """RTSTRUCT, SEG, NIfTI labels and LIDC XML among files and folders. Raises: DataError where a path is not there."""
    from gen_radiology.dicom_files import is_dicom, walk

    found = MaskFiles()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        for file in walk(path) if path.is_dir() else [path]:
            try:
                if is_nifti(file):
                    found.files.append(MaskFile(file, "labels"))
                elif is_dicom(file):
                    if kind := kind_of_object(file):
                        found.files.append(dicom_masks(file, kind))
                    elif not path.is_dir():
                        raise DataError(f"{file}: DICOM, but neither RTSTRUCT nor SEG")
                elif file.suffix.lower() == ".xml":
                    found.files.append(_readings(file))
                elif not path.is_dir():
                    raise DataError(f"{file}: no RTSTRUCT, SEG, NIfTI or LIDC XML")
            except DataError as error:
                if not path.is_dir():
                    raise
                found.left_out.append((file, str(error).removeprefix(f"{file}: ")))
    return found


def kind_of_object(path: Path) -> str:
    """ "structures" for RTSTRUCT, "segmentation" for SEG, "" for another DICOM object. Raises: DataError."""
    from gen_radiology.dicom_files import RTSTRUCT, SEGMENTATIONS, read_header

    header = read_header(path)
    sop, modality = header.text("SOPClassUID"), header.text("Modality")
    if sop in SEGMENTATIONS or not sop and modality == "SEG":
        return "segmentation"
    return "structures" if sop == RTSTRUCT or not sop and modality == "RTSTRUCT" else ""


def dicom_masks(path: Path, kind: str) -> MaskFile:
    """An RTSTRUCT or a SEG and the images it names. Raises: DataError."""
    if kind == "segmentation":
        return MaskFile(path, kind, *_drawn_on(path))
    from gen_radiology.rtstruct import read_rtstruct

    read = read_rtstruct(path)
    return MaskFile(path, kind, read.series_uids, read.study_uid, read.subject, read)


def _drawn_on(path: Path) -> tuple[tuple[str, ...], str, str]:
    """Series and study that a SEG refers to, and its patient."""
    import warnings

    import pydicom

    tags = ["ReferencedSeriesSequence", "StudyInstanceUID", "PatientID"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            series = tuple(str(s.get("SeriesInstanceUID", "")) for s in data.get("ReferencedSeriesSequence") or ())
            return tuple(filter(None, series)), str(data.get("StudyInstanceUID", "")), str(data.get("PatientID", ""))
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise DataError(f"{path}: damaged DICOM SEG: {type(error).__name__}: {error}") from None


def _readings(path: Path) -> MaskFile:
    from gen_radiology.lidc_xml import read_readings

    readings = read_readings(path)
    if readings.kind != "CT":
        raise DataError(f"{path}: a reading of a chest X-ray, not of a CT: no outlines")
    return MaskFile(path, "readings", tuple(filter(None, [readings.series_uid])), readings.study_uid, "", readings)


def belongs(file: MaskFile, series_uid: str, known: set[str]) -> bool:
    """Whether masks may lie on a series: it is one that they name, or they name none of the `known`."""
    return series_uid in file.series_uids or not known & set(file.series_uids)


def draw(files: Sequence[MaskFile], image: Image, names: Any = None, alone: bool = False) -> MaskSet:
    """The masks of some files on an image's grid, under names that are all different.

    names: RoiNames. alone: there is no other image they could lie on, so what does not fit is an error.
    """
    together = MaskSet()
    for file in files:
        try:
            found = _draw(file, image, names)
        except DataError as error:
            if alone:
                raise
            together.notes.append(str(error))
            continue
        for name, mask in found.masks.items():
            free = name if name not in together.masks else f"{name} ({file.path.name.partition('.')[0]})"
            while free in together.masks:
                free += "'"
            together.masks[free] = mask
        together.notes += found.notes
        together.meta[str(file.path)] = found.meta
    return together


def _draw(file: MaskFile, image: Image, names: Any) -> MaskSet:
    if file.kind == "structures":
        from gen_radiology.rtstruct import structure_masks

        return structure_masks(file.opened, image, names)
    if file.kind == "segmentation":
        from gen_radiology.dicom_seg import segmentation_masks

        return segmentation_masks(file.path, image, names=names)
    if file.kind == "labels":
        from gen_radiology.read_nifti import read_label_masks

        return read_label_masks(file.path, image)
    from gen_radiology.lidc_nodules import find_nodules, nodule_masks

    found = nodule_masks(find_nodules(file.opened, image.spacing), image, by="nodule")
    found.notes = [*file.opened.notes, *found.notes]
    empty = [name for name, mask in found.masks.items() if not mask.any()]
    found.masks = {name: mask for name, mask in found.masks.items() if name not in empty}
    return found
