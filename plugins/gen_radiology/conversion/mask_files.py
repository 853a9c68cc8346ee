"""Files of masks of every kind, the images they belong to, and their masks on an image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.volumes.image import Image, MaskSet


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


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI."""
    from gen_radiology.nifti.reader import NiftiFiles

    return NiftiFiles().recognizes(path)


def find_masks(paths: Sequence[Path]) -> MaskFiles:
    """RTSTRUCT, SEG, NIfTI labels and LIDC XML among files and folders. Raises: DataError where a path is not there."""
    from gen_radiology.dicom.files import walk
    from gen_radiology.dicom.header import is_dicom

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
    from gen_radiology.dicom.files import RTSTRUCT, SEGMENTATIONS
    from gen_radiology.dicom.header import read_header

    header = read_header(path)
    sop, modality = header.text("SOPClassUID"), header.text("Modality")
    if sop in SEGMENTATIONS or not sop and modality == "SEG":
        return "segmentation"
    return "structures" if sop == RTSTRUCT or not sop and modality == "RTSTRUCT" else ""


def dicom_masks(path: Path, kind: str) -> MaskFile:
    """An RTSTRUCT or a SEG and the images it names. Raises: DataError."""
    if kind == "segmentation":
        return MaskFile(path, kind, *_drawn_on(path))
    from gen_radiology.dicom.rtstruct import read_rtstruct

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
    from gen_radiology.lidc.readings import read_readings

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
        from gen_radiology.dicom.rtstruct import structure_masks

        return structure_masks(file.opened, image, names)
    if file.kind == "segmentation":
        from gen_radiology.dicom.seg import segmentation_masks

        return segmentation_masks(file.path, image, names=names)
    if file.kind == "labels":
        from gen_radiology.nifti.label_masks import read_label_masks

        return read_label_masks(file.path, image)
    from gen_radiology.lidc.nodule_masks import nodule_masks
    from gen_radiology.lidc.nodules import find_nodules

    found = nodule_masks(find_nodules(file.opened, image.spacing), image, by="nodule")
    found.notes = [*file.opened.notes, *found.notes]
    empty = [name for name, mask in found.masks.items() if not mask.any()]
    found.masks = {name: mask for name, mask in found.masks.items() if name not in empty}
    return found
