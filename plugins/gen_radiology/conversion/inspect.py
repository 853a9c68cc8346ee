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

from gen_core.errors import DataError
from gen_core.inspect import describe, statistics
from gen_radiology.conversion.mask_files import MaskFiles, belongs, draw, find_masks, is_nifti
from gen_radiology.volumes.image import Image, MaskSet

LOOKED_AT = 200  # files of a folder that tell whether it is radiological


def recognizes(path: Path) -> bool:
    """Whether a file, or one of the first files of a folder, is DICOM or NIfTI; never raises."""
    from gen_radiology.dicom.files import walk

    try:
        files = itertools.islice(walk(path), LOOKED_AT) if path.is_dir() else [path]
        return any(is_image_file(file) for file in files)
    except OSError:
        return False


def is_image_file(path: Path) -> bool:
    """Whether a file is DICOM or NIfTI."""
    from gen_radiology.dicom.header import is_dicom

    return is_nifti(path) or path.is_file() and is_dicom(path)


def inspect(path: Path, masks: Sequence[Path] = (), geometry: str = "refuse") -> list[dict[str, Any]]:
    """Facts of every image of a file or folder, with voxels of those masks that belong to it. Raises: DataError."""
    beside = find_masks(masks)
    if is_nifti(path):
        return [_nifti_facts(path, beside)]
    from gen_radiology.dicom.find_series import find_objects
    from gen_radiology.dicom.read_series import read_series

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
    from gen_radiology.nifti.images import read_images
    from gen_radiology.nifti.reader import NiftiFiles

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
