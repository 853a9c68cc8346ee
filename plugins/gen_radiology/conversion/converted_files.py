"""What one conversion makes of a series: which masks belong to it, and which of its files are there already.

A sidecar `STEM.json` is written last and lists the files with their sizes under "written".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core import __version__, atomic
from gen_core.errors import DataError
from gen_radiology.conversion.mask_files import MaskFile


@define(eq=False)
class Unit:
    """What becomes one file, or one folder of slices: a series with the masks that belong to it.

    patient: as the set calls it. stem: of the files' names.
    """

    series: Any
    patient: str
    stem: str
    masks: list[MaskFile] = Factory(list)


def owners_of(file: MaskFile, units: Sequence[Unit]) -> list[Unit]:
    """The images that masks may lie on: those they name, else the nearest ones of the same study or patient."""
    if file.kind == "labels":  # a label map names nobody
        return [u for u in units if _same_grid(file.path, u.series)] or (list(units) if len(units) == 1 else [])
    named = [u for u in units if u.series.series_uid in file.series_uids]
    if named or file.kind == "readings":
        return named
    study = [u for u in units if file.study_uid and u.series.study_uid == file.study_uid]
    found = study or [u for u in units if file.subject and u.series.subject == file.subject]
    # images that were exported anew have new UIDs, which the masks do not know: what lies together belongs together
    shared = [len(os.path.commonpath([file.path.resolve(), u.series.folder.resolve()])) for u in found]
    return [u for u, depth in zip(found, shared) if depth == max(shared)]


def _same_grid(labels: Path, series: Any) -> bool:
    """Whether a label map has the size and the place of a series, told from headers."""
    from gen_radiology.nifti.file import RAS_TO_LPS, open_nifti

    try:
        file = open_nifti(labels)
        if tuple(n for n in file.shape[::-1] if n > 1) != tuple(n for n in series.shape if n > 1):
            return False
        affine = (RAS_TO_LPS @ file.affine)[:, [2, 1, 0, 3]]
        return bool(np.abs(affine - series.affine).max() < 0.1 * np.linalg.norm(affine[:3, :3], axis=0).min())
    except DataError:
        return False


def digest_of_settings(chosen: Any, unit: Unit) -> str:
    """Digest of what the files of a unit depend on: another one means writing anew."""
    sources = sorted((str(f), f.stat().st_size) for f in (*unit.series.files, *(m.path for m in unit.masks)))
    return hashlib.sha256(repr((__version__, chosen, sources)).encode()).hexdigest()[:32]


def kept_rows(folder: Path, stem: str, settings: str) -> list[dict[str, Any]] | None:
    """Rows of whole files of an earlier call with the same settings, None where there are none."""
    rows = []
    for sidecar in sorted(folder.glob(f"{stem}*.json")):
        try:
            row = atomic.json_object(sidecar)["written"]
            whole = all((folder / name).stat().st_size == size for name, size in row["files"].items())
            if not whole or row["settings"] != settings:
                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        rows.append({**row, "kept": True})
    return rows if rows and len(rows) == rows[0]["of"] else None


def earlier_files(folder: Path, stem: str) -> set[str]:
    """Names of the files that an earlier call made of a series, sidecars too."""
    found = set()
    for sidecar in folder.glob(f"{stem}*.json"):
        found.add(sidecar.name)
        try:
            found |= set(atomic.json_object(sidecar)["written"]["files"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def remove(folder: Path, stem: str, names: set[str]) -> None:
    """Remove files of a series, and folders that are empty then. Only names below `folder` count."""
    for name in names:
        path = folder / name
        if path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    for empty in (folder / stem, folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
