"""LIDC-IDRI as sources: CT series with the readings that name their SeriesInstanceUID, whole or about each nodule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dataset_options import Lidc
from gen_radiology.dicom.find_series import find_objects
from gen_radiology.lidc.nodule_masks import nodule_masks
from gen_radiology.lidc.nodules import KINDS, find_nodules
from gen_radiology.lidc.readings import read_readings
from gen_radiology.sources.dicom import DicomSource
from gen_radiology.sources.source import Found, counted, subject_of
from gen_radiology.volumes.image import Image, MaskSet

NODULES = ("none", "solid", "part-solid", "ground-glass")
Extent = tuple[np.ndarray, np.ndarray] | None  # first and last voxel index (z, y, x)


@define(eq=False)
class LidcSource(DicomSource):
    """A CT series with its readings: the whole scan, or a block about one nodule (then `nodule` is set)."""

    nodules: list[Any] = Factory(list)  # lidc_nodules.Nodule
    extents: list[Extent] = Factory(list)  # of the nodules
    affine: np.ndarray = Factory(lambda: np.eye(4))  # of the series as stored
    nodule: Any = None

    def read_masks(self, image: Image) -> MaskSet:
        assert isinstance(self.options, Lidc)
        found, wanted = MaskSet(), set(self.options.masks)
        for by, names in (("all", {"nodule"}), ("class", set(KINDS))):
            if wanted & names:
                one = nodule_masks(self.nodules, image, self.options.level, by=by)
                found.masks |= {name: mask for name, mask in one.masks.items() if name in wanted}
                found.notes += [note for note in one.notes if note not in found.notes]
        return found

    def condition(self, affine: np.ndarray, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Of the nodule; of a scan, block or slice, of the largest one that it shows.

        malignancy: the mean of the readers' ratings, 1 to 5.
        """
        sized = [(n, ends) for n, ends in zip(self.nodules, self.extents) if math.isfinite(n.diameter_mm)]
        shown = [n for n, ends in sized if self._shows(ends, affine, shape)]
        one = self.nodule or max(shown, key=lambda n: n.diameter_mm, default=None)
        if one is None:
            return {"nodule": NODULES.index("none"), "malignancy": math.nan, "diameter_mm": math.nan}
        rated = one.ratings.get("malignancy")
        return {
            "nodule": NODULES.index(one.kind) if one.kind else -1,
            "malignancy": float(np.mean(rated.given)) if rated else math.nan,
            "diameter_mm": float(one.diameter_mm),
        }

    def _shows(self, ends: Extent, affine: np.ndarray, shape: tuple[int, int, int]) -> bool:
        """Whether the box of a nodule's outlines on the scan's slices reaches into a block."""
        if ends is None:
            return False
        corners = [[*(ends[k][axis] for axis, k in enumerate(pick)), 1.0] for pick in np.ndindex(2, 2, 2)]
        there = np.linalg.inv(affine) @ self.affine @ np.array(corners).T
        low, high = there[:3].min(1), there[:3].max(1)
        return bool((high > -0.5).all() and (low < np.array(shape) - 0.5).all())


def find_lidc(root: Path, options: Lidc) -> Found:
    """CT series with their readings, or a source for each nodule of them. Raises: DataError for an XML that is none."""
    folder = find_objects(root)
    found = Found([], counted([(p, why) for p, why in folder.left_out if p.suffix.lower() != ".xml"], root))
    readings = _readings(root, options, found.notes)
    for series in folder.series:
        if series.modality != "CT":
            found.notes.append(f"left out: {series.id}: its modality is {series.modality or 'unknown'}")
            continue
        if not series.problems and series.shape[0] < options.min_slices:
            found.notes.append(f"left out: {series.id}: {series.shape[0]} slices (dataset.min_slices)")
            continue
        reading = readings.pop(series.series_uid, None)
        if reading is None and (options.without_xml == "leave out" or options.unit == "nodule"):
            found.notes.append(f"left out: {series.id}: no XML names its SeriesInstanceUID")
            continue
        nodules: list[Any] = []
        extents: list[Extent] = []
        affine = np.eye(4) if series.problems else series.affine
        if reading is not None and not series.problems:
            nodules = find_nodules(reading, np.linalg.norm(affine[:3, :3], axis=0))
            extents = [_extent(nodule, series.shape, affine) for nodule in nodules]
        units: list[tuple[str, Any, np.ndarray | None]] = [(series.id, None, None)]
        if options.unit == "nodule" and not series.problems:
            units = []
            for nodule, ends in zip(nodules, extents):
                if ends is None:
                    found.notes.append(
                        f"left out: {nodule.name} of {series.id}: most of it lies on slices that are not here"
                    )
                else:
                    focus = (affine @ [*(ends[0] + ends[1]) / 2, 1.0])[:3]
                    units.append((f"{series.id}-{nodule.name}", nodule, focus))
        for id, nodule, focus in units:
            found.sources.append(
                LidcSource(
                    id,
                    subject_of(series.folder.relative_to(root), options.subject) if options.subject else series.subject,
                    f"{series.folder}: series {series.id}",
                    series.modality,
                    series.files,
                    (reading.path,) if reading is not None else (),
                    series.id,
                    focus,
                    [note.removeprefix(f"{root}/") for note in reading.notes] if reading is not None else [],
                    series=series,
                    options=options,
                    nodules=nodules,
                    extents=extents,
                    affine=affine,
                    nodule=nodule,
                )
            )
    if readings:
        found.notes.append(f"{len(readings)} XML files read other series than those that are here")
    return found


def _readings(root: Path, options: Lidc, notes: list[str]) -> dict[str, Any]:
    """SeriesInstanceUID -> readings of a CT."""
    found: dict[str, Any] = {}
    chest = 0
    for path in sorted(p for p in root.glob(options.xml) if p.is_file() and not p.name.startswith(".")):
        try:
            reading = read_readings(path)
        except DataError as error:
            if options.unreadable == "refuse":
                raise DataError(f'{error} (dataset.unreadable = "skip" passes over such files)') from None
            notes.append(f"passed over {path.relative_to(root)}: {error}")
            continue
        if reading.kind != "CT":
            chest += 1
        elif found.setdefault(reading.series_uid, reading) is not reading:
            first = found[reading.series_uid].path.name
            notes.append(f"left out: {path.relative_to(root)}: reads the same series as {first}")
    if chest:
        notes.append(f"left out: {chest} readings of chest X-rays")
    return found


def _extent(nodule: Any, shape: tuple[int, int, int], affine: np.ndarray) -> Extent:
    """Where a nodule's outlines lie on a series; None where most of them lie off it."""
    contours = [c for parts in nodule.outlines.values() for part in parts for c in part.contours if c.inclusion]
    if not contours or abs(affine[2, 0]) < 1e-6:  # not axial: nothing LIDC says fits
        return None
    z = np.array([(c.z - affine[2, 3]) / affine[2, 0] for c in contours])
    here = (z > -0.5) & (z < shape[0] - 0.5)
    if 2 * here.sum() < len(contours):
        return None
    points = np.concatenate([c.points for c in contours])[:, ::-1]  # y, x
    return np.array([z[here].min(), *points.min(0)]), np.array([z[here].max(), *points.max(0)])
