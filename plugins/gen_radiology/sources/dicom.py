"""DICOM series as sources, with the structures and segmentations that belong to them.

An object belongs to the series it names; where it names none that is here, to one of the same frame of reference, study
or patient, the nearest by folder, which is said.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define

from gen_core.errors import DataError
from gen_radiology.dataset_options import Dicom, Lidc
from gen_radiology.dicom.find_series import DicomFolder, find_objects
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.roi_names import RoiNames
from gen_radiology.dicom.series import Series
from gen_radiology.sources.source import Found, Source, counted, regex, subject_of
from gen_radiology.volumes.image import Image, MaskSet

SEXES = ("F", "M", "O")


@define(eq=False)
class DicomSource(Source):
    """The k-th image of a series, with the structures and segmentations that belong to it."""

    series: Series | None = None
    k: int = 0
    options: Dicom | Lidc | None = None
    structures: tuple[Path, ...] = ()
    segmentations: tuple[Path, ...] = ()
    laid_out: tuple[tuple[int, int, int], np.ndarray] | None = None  # what `grid` found

    def grid(self) -> tuple[tuple[int, int, int], np.ndarray]:
        assert self.series is not None
        if self.laid_out is None:
            self.laid_out = (self.series.shape, self.series.affine)
        return self.laid_out

    def read(self, masks: bool) -> tuple[Image, MaskSet]:
        assert self.series is not None and self.options is not None
        image = read_series(self.series, self.options.geometry)[self.k]
        image.warnings = [w for w in image.warnings if not w.startswith("image ")]
        return image, self.read_masks(image) if masks else MaskSet()

    def read_masks(self, image: Image) -> MaskSet:
        from gen_radiology.dicom.rtstruct import read_rtstruct, structure_masks
        from gen_radiology.dicom.seg import segmentation_masks

        assert isinstance(self.options, Dicom)
        names = RoiNames({k: list(v) for k, v in self.options.aliases.items()} or None)
        moved = self.options.geometry == "resample"
        sets = [structure_masks(read_rtstruct(path), image, names) for path in self.structures]
        sets += [segmentation_masks(path, image, resample=moved, names=names) for path in self.segmentations]
        every: dict[str, np.ndarray] = {}
        notes = [note for one in sets for note in one.notes]
        for one in sets:
            for name, mask in one.masks.items():
                if name in every:
                    notes.append(f"mask '{name}' comes from several objects: united")
                every[name] = every[name] | mask if name in every else mask
        wanted = {name: names.standard(name) for name in self.options.masks}
        other = sorted(set(every) - set(wanted.values()))
        if other:
            notes.append(f"masks that were not asked for: {', '.join(other)}")
        return MaskSet({name: every[known] for name, known in wanted.items() if known in every}, notes)

    def condition(self, affine: np.ndarray, shape: tuple[int, int, int]) -> dict[str, Any]:
        wanted = self.options.header if isinstance(self.options, Dicom) else ()
        if not wanted:
            return {}
        said = dict(_header_facts(self.image_files[0]))
        spacing = np.linalg.norm(self.grid()[1][:3, :3], axis=0)  # of the scan, before any resampling
        said |= {"slice_spacing_mm": float(spacing[0]), "pixel_spacing_mm": float(np.sqrt(spacing[1] * spacing[2]))}
        return {name: said[name] for name in wanted}


@lru_cache(1024)
def _header_facts(path: Path) -> dict[str, Any]:
    """Age in years, weight in kg, sex as an index into SEXES; NaN and -1 where the header does not say."""
    from pydicom import dcmread

    keys = ["PatientAge", "PatientSex", "PatientWeight"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(path, stop_before_pixels=True, specific_tags=keys, force=True)
            age, sex, weight = (str(data.get(key) or "").strip() for key in keys)
    except Exception as error:  # pydicom raises what it likes on damaged values
        raise DataError(f"{path}: age, sex and weight cannot be read: {type(error).__name__}") from None
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age)
    years = int(match[1]) / {"Y": 1, "": 1, "M": 12, "W": 52.1775, "D": 365.2425}[match[2]] if match else math.nan
    try:
        kg = float(weight)
    except ValueError:
        kg = math.nan
    return {
        "age": years,
        "sex": SEXES.index(sex) if sex in SEXES else -1,
        "weight": kg if 0 < kg < 1000 else math.nan,
    }


def find_dicom(root: Path, options: Dicom) -> Found:
    """The series of a folder that the filters let through. Raises: DataError where they are of several modalities."""
    folder = find_objects(root)
    found = Found([], counted(folder.left_out, root))
    for series in folder.series:
        found.words |= {series.id, series.subject, series.description, series.study_uid, series.series_uid}
    mask_notes: list[str] = []
    owners = owners_of(folder, mask_notes) if options.masks else {}
    found.notes += mask_notes
    wanted = regex("description", options.description)
    kept = []
    for series in folder.series:
        if options.modality and series.modality.upper() != options.modality.upper():
            found.notes.append(f"left out: {series.id}: its modality is {series.modality or 'unknown'}")
        elif not wanted.search(series.description):
            found.notes.append(f"left out: {series.id}: description '{series.description}'")
        elif not series.problems and series.shape[0] < options.min_slices:
            found.notes.append(f"left out: {series.id}: {series.shape[0]} slices (dataset.min_slices)")
        else:
            kept.append(series)
    counts = Counter(series.modality or "unknown" for series in kept)
    if len(counts) > 1:
        listed = ", ".join(f"{name} ({n} series)" for name, n in sorted(counts.items()))
        raise DataError(f"dataset.modality is not set, and '{root}' holds {listed}: choose one")
    for series in kept:
        mine = owners.get(series, ([], []))
        for k in range(n := series.images if not series.problems else 1):
            found.sources.append(
                DicomSource(
                    f"{series.id}-t{k + 1}" if n > 1 else series.id,
                    subject_of(series.folder.relative_to(root), options.subject) if options.subject else series.subject,
                    f"{series.folder}: series {series.id}",
                    series.modality,
                    series.files,
                    (*mine[0], *mine[1]),
                    notes=list(series.notes),
                    series=series,
                    k=k,
                    options=options,
                    structures=tuple(mine[0]),
                    segmentations=tuple(mine[1]),
                )
            )
    return found


def owners_of(folder: DicomFolder, notes: list[str]) -> dict[Series, tuple[list[Path], list[Path]]]:
    """Series -> its RTSTRUCT and SEG files. `notes` gets a line for each that belongs to none or was guessed."""
    owners: dict[Series, tuple[list[Path], list[Path]]] = {}
    for kind, paths in enumerate((folder.structures, folder.segmentations)):
        for path in paths:
            mine, how = _series_of(path, folder.series)
            if not mine:
                notes.append(f"left out: {path.name}: belongs to no series that is here")
            elif how:
                notes.append(f"{path.parent.name}/{path.name}: taken for {', '.join(s.id for s in mine)}: {how}")
            for series in mine:
                owners.setdefault(series, ([], []))[kind].append(path)
    return owners


def _series_of(path: Path, series: list[Series]) -> tuple[list[Series], str]:
    """The series an object was drawn on, and how that was guessed ("" where it says so itself)."""
    subject, study, frames, uids = _references(path)
    named = [s for s in series if s.series_uid in uids]
    if named:
        return named, ""
    for how, same in (
        ("the same frame of reference", [s for s in series if _frame_of_reference(s) in frames]),
        ("the same study", [s for s in series if study and s.study_uid == study]),
        ("the same patient", [s for s in series if subject and s.subject == subject]),
    ):
        if same:
            near = [len(os.path.commonpath([s.folder.resolve(), path.resolve().parent])) for s in same]
            nearest = [s for s, n in zip(same, near) if n == max(near)]
            return nearest, how + (", the nearest folder" if len(nearest) < len(same) else "")
    return [], ""


def _frame_of_reference(series: Series) -> str:
    return series.frames[0].header.text("FrameOfReferenceUID") or "unknown"


def _references(path: Path) -> tuple[str, str, set[str], set[str]]:
    """Patient, study, frames of reference and series that an RTSTRUCT or SEG names. Nothing where it is damaged."""
    from pydicom import dcmread

    keys = ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence",
            "ReferencedFrameOfReferenceSequence"]  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = dcmread(path, stop_before_pixels=True, specific_tags=keys, force=True)
            drawn = list(data.get("ReferencedFrameOfReferenceSequence") or ())
            frames = {str(item.get("FrameOfReferenceUID") or "") for item in (data, *drawn)}
            studies = [study for frame in drawn for study in frame.get("RTReferencedStudySequence") or ()]
            named = [s for study in studies for s in study.get("RTReferencedSeriesSequence") or ()]
            named += list(data.get("ReferencedSeriesSequence") or ())
            uids = {str(item.get("SeriesInstanceUID") or "") for item in named}
            ids = (str(data.get("PatientID") or ""), str(data.get("StudyInstanceUID") or ""))
    except Exception:  # a damaged object is told when its masks are read
        return "", "", set(), set()
    return *ids, frames - {""}, uids - {""}
