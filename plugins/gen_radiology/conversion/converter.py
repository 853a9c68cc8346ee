"""DICOM to NIfTI, or to de-identified DICOM: every patient's images with their masks, and a word on all that is not.

The target holds one folder a patient; `STEM.json` is written last, so an image with a sidecar is whole and is kept
when the command is repeated. report.json and left_out.csv tell what happened, in pseudonyms.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import __version__, atomic
from gen_core.errors import DataError, GenError
from gen_core.writer import Conversion, Converter
from gen_radiology.conversion.converted_files import (
    Unit,
    digest_of_settings,
    earlier_files,
    kept_rows,
    owners_of,
    remove,
)
from gen_radiology.conversion.deidentify import Cleaner, burned_in, header_facts, read_file
from gen_radiology.conversion.discretion import Discretion
from gen_radiology.conversion.inspect import geometry_facts, inspect, recognizes
from gen_radiology.conversion.mask_files import MaskFile, MaskFiles, dicom_masks, draw, find_masks
from gen_radiology.conversion.pseudonyms import Pseudonyms
from gen_radiology.conversion.report import PART, Report
from gen_radiology.writer_options import Converting as Options


def build(options: Options, context: Any = None) -> Converter:
    """The converter of CT, MRI and the like."""
    return Radiology()


class Radiology(Converter):
    """See Converter."""

    def recognizes(self, path: Path) -> bool:
        return recognizes(path)

    def inspect(self, path: Path, masks: tuple[Path, ...] = (), geometry: str = "refuse") -> list[dict[str, Any]]:
        return inspect(path, masks, geometry)

    def convert(self, asked: Conversion) -> dict[str, Any]:
        return Job(asked).run()


class Job:
    """One conversion. Raises: DataError where source, target or table cannot be used."""

    def __init__(self, asked: Conversion):
        self.asked = asked
        source, target = asked.source.resolve(), asked.target.resolve()
        if source == target or (source.is_dir() and target.is_relative_to(source)):
            raise DataError(f"{asked.target}: lies in the source {asked.source}; choose a folder beside it")
        if target.exists() and not target.is_dir():
            raise DataError(f"{asked.target}: is a file, expected a folder")
        from gen_radiology.dicom.roi_names import RoiNames

        self.names = RoiNames(asked.names) if asked.names else None
        self.secret = Pseudonyms.load(asked.table, asked.target, asked.keep_ids)
        self.cleaner = Cleaner(self.secret, asked.dates, asked.characteristics)
        self.discretion = Discretion(asked)
        self.report = Report(asked, self.secret, self.discretion)

    def run(self) -> dict[str, Any]:
        """Convert all there is, then write the report."""
        from gen_radiology.dicom.find_series import find_objects

        folder = find_objects(self.asked.source)
        masks = find_masks(self.asked.masks)
        kinds = [(path, "structures") for path in folder.structures]
        for path, kind in [*kinds, *((path, "segmentation") for path in folder.segmentations)]:
            try:
                masks.files.append(dicom_masks(path, kind))
            except DataError as error:
                self.report.leave(path, "", str(error))
        for path, why in (*folder.left_out, *masks.left_out):
            self.report.leave(path, "", why)
        units = self._units(folder.series, masks)
        self.report.same_key()
        self._save()  # before the first file that only the table can explain
        self.report.begin()
        for patient in dict.fromkeys(unit.patient for unit in units):
            self._patient(patient, [unit for unit in units if unit.patient == patient])
        self._save()
        return self.report.write()

    def _save(self) -> None:
        if self.asked.table:
            self.secret.save(self.asked.table)

    def _units(self, series: Sequence[Any], masks: MaskFiles) -> list[Unit]:
        units = []
        count: dict[str, int] = {}
        for one in series:
            part = count.get(one.series_uid, 0)
            count[one.series_uid] = part + 1
            modality = "".join(c for c in one.modality.lower() if c.isalnum()) or "image"
            digest = self.secret.digest("series", f"{one.study_uid}\0{one.series_uid}\0{part}")
            if self.asked.keep_ids:  # no key is kept, and none is needed
                digest = hashlib.sha256(f"{one.study_uid}\0{one.series_uid}\0{part}".encode()).hexdigest()
            units.append(Unit(one, self._patient_name(one.subject), f"{modality}-{digest[:10]}"))
            self.discretion.know(units[-1])
        for file in masks.files:
            owners = owners_of(file, units)
            for unit in owners:
                unit.masks.append(file)
            if not owners:
                patient = self._patient_name(file.subject) if file.subject else ""
                if patient:
                    self.report.inventory.add(patient, PART[file.kind])
                self.report.leave(file.path, patient, "no image here that these masks are of")
        return units

    def _patient_name(self, subject: str) -> str:
        from gen_radiology.writers.synthetic_marks import file_part

        name = self.secret.patient(subject)
        part = file_part(name)
        # two IDs that differ in what a file name cannot hold stay two patients
        return part if part == name else f"{part}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"

    def _patient(self, patient: str, units: list[Unit]) -> None:
        """All of one patient, or nothing where a required part is missing."""
        files = {id(file): file for unit in units for file in unit.masks}
        promised = {"image"} | {PART[file.kind] for file in files.values()}
        lacking = [part for part in self.asked.require if part not in promised]
        done: list[dict[str, Any]] = []
        for unit in units if not lacking else ():
            try:
                done += self._series(unit)
            except DataError as error:
                self.report.leave(unit.series.folder, patient, str(error), unit)
        if lacking:
            for file in files.values():
                self.report.inventory.add(patient, PART[file.kind])
            self.report.inventory.add(patient, "image", sum(not unit.series.problems for unit in units))
        else:
            self.report.inventory.add(patient, "image", len(done))
            for part in ("structures", "segmentation"):
                sources = {source for row in done for source in row["sources"][part]}
                self.report.inventory.add(patient, part, len(sources))
        missing = lacking or self.report.inventory.missing(patient, self.asked.require)
        if missing:
            for unit in units:
                self.report.leave(unit.series.folder, patient, f"required and not there: {', '.join(missing)}", unit)
                folder = self.asked.target / patient  # an earlier call may have asked for less
                remove(folder, unit.stem, earlier_files(folder, unit.stem))
            return
        self.report.written += done

    def _series(self, unit: Unit) -> list[dict[str, Any]]:
        """Rows of what a series gave, written now or earlier. Raises: DataError."""
        if unit.series.problems:
            raise DataError(unit.series.problems[0])
        why = self._guarded(burned_in, unit.series.files)
        if why and self.asked.burned_in == "refuse":
            raise DataError(f"{unit.series.folder}: {why}")
        notes = [why] if why else []
        folder, settings = self.asked.target / unit.patient, self._settings(unit)
        kept = kept_rows(folder, unit.stem, settings)
        if kept is not None:
            return kept
        before = earlier_files(folder, unit.stem)
        made = self._guarded(self._slices if self.asked.to == "dicom" else self._volumes, unit, notes)
        sidecars = {f"{row['image']}.json" for row in made}
        remove(folder, unit.stem, before - sidecars - {name for row in made for name in row["files"]})
        return made

    def _guarded(self, make: Any, *given: Any) -> Any:
        """pydicom raises errors of many kinds for damaged elements; here they all mean this series."""
        import warnings

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return make(*given)
        except (GenError, OSError):
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise DataError(f"damaged: {type(error).__name__}: {said}") from None

    def _settings(self, unit: Unit) -> str:
        asked, names = self.asked, self.asked.names.read_text("utf-8") if self.asked.names else ""
        chosen = (asked.to, asked.geometry, names, asked.labels, asked.dates, asked.characteristics, self.report.key)
        return digest_of_settings(chosen, unit)

    def _volumes(self, unit: Unit, notes: list[str]) -> list[dict[str, Any]]:
        """A series as NIfTI: one image a time point, masks beside each."""
        from gen_radiology.dicom.read_series import read_series
        from gen_radiology.writers.nifti import write_masks, write_volume

        says = f"converted by gen {__version__}, not for diagnosis"
        images = read_series(unit.series, self.asked.geometry)
        head = read_file(unit.series.files[0], stop_before_pixels=True)
        self.discretion.know(unit, head)
        header = header_facts(self.cleaner.clean(head, unit.series.subject), self.asked.characteristics)
        rows = []
        for k, image in enumerate(images):
            name = unit.stem if len(images) == 1 else f"{unit.stem}-t{k:03d}"
            stem = self.asked.target / unit.patient / name
            found = [(file, draw([file], image, self.names)) for file in unit.masks]
            masks = self._named([(file, masks.masks) for file, masks in found], unit)
            gave = [file for file, m in found if m.masks]
            path = stem.with_name(f"{name}.nii.gz")
            write_volume(path, image.array, image.affine, says)
            beside, described = write_masks(stem, masks, image.affine, says, self.asked.labels)
            told = [*notes, *image.warnings, *(note for _, m in found for note in m.notes)]
            row = self.report.row(unit, [path, *beside], len(images), gave, told, self._settings(unit))
            row["image"] = name
            facts = {
                "description": says,
                "synthetic": False,
                "images": [path.name],
                "patient": unit.patient,
                "units": image.units,
                "shape": list(image.array.shape),
                **geometry_facts(image),
                "masks": described,
                "header": header,
            }
            atomic.write_json(stem.with_name(f"{name}.json"), {**facts, "written": row})
            rows.append(row)
        return rows

    def _named(self, found: list[tuple[MaskFile, dict[str, np.ndarray]]], unit: Unit) -> dict[str, np.ndarray]:
        """Masks of all files under names that are all different and tell nothing of the patient."""
        masks: dict[str, np.ndarray] = {}
        for file, those in found:
            for name, mask in those.items():
                name = name if file.kind != "labels" or name != _stem(file.path) else "labels"
                if self.discretion.hides(name, unit.patient):
                    name = f"region-{len(masks) + 1}"
                free, k = name, 2
                while free in masks:
                    free, k = f"{name}-{k}", k + 1
                masks[free] = mask
        return masks

    def _slices(self, unit: Unit, notes: list[str]) -> list[dict[str, Any]]:
        """A series as de-identified copies of its files, in the order of slices, with copies of its mask objects."""
        from gen_radiology.writers.dicom import publish

        folder = self.asked.target / unit.patient
        beside = folder / f".{unit.stem}{atomic.SUFFIX}{os.getpid()}"
        beside.mkdir(parents=True, exist_ok=True)
        try:
            for number, path in enumerate(unit.series.files, 1):
                data = read_file(path)
                if number == 1:
                    self.discretion.know(unit, data)
                copy = self.cleaner.clean(data, unit.series.subject)
                copy.save_as(beside / f"{number:04d}.dcm", enforce_file_format=True)
            publish(beside, folder / unit.stem)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        files, gave = sorted((folder / unit.stem).iterdir()), []
        for file in unit.masks:
            if file.kind not in ("structures", "segmentation"):
                self.report.leave(file.path, unit.patient, f"{file.kind} cannot travel as DICOM: --to nifti")
                continue
            data = read_file(file.path)
            path = folder / f"{file.kind}-{self.secret.digest('object', str(data.SOPInstanceUID))[:10]}.dcm"
            self.discretion.know(unit, data)
            with atomic.replacing(path) as partial:
                self.cleaner.clean(data, unit.series.subject).save_as(partial, enforce_file_format=True)
            files.append(path)
            gave.append(file)
        row = self.report.row(unit, files, 1, gave, notes, self._settings(unit))
        facts = {"patient": unit.patient, "files": len(files), "written": row}
        atomic.write_json(folder / f"{unit.stem}.json", facts)
        return [row]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]
