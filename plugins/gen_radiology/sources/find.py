"""The volumes of a folder, by the kind of data set."""

from __future__ import annotations

from pathlib import Path

from gen_core.errors import DataError
from gen_radiology.dataset_options import Dicom, Lidc, Nifti, Volumes
from gen_radiology.sources.source import Found

PHANTOM = "or use a phantom (--set dataset.use=lung-ct-phantom)"


def find_sources(options: Volumes) -> Found:
    """Every volume below `dataset.root`, by id. Raises: DataError when there is none, MissingError without pydicom."""
    if not options.root:
        raise DataError(f"dataset.root is not set: name a folder (--set dataset.root=DIR), {PHANTOM}")
    root = Path(options.root).expanduser()
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise DataError(f"dataset.root: '{root}' {what}; name a folder, {PHANTOM}")
    if isinstance(options, Nifti):
        from gen_radiology.sources.nifti import find_nifti

        kind, found = "NIfTI image", find_nifti(root, options)
    elif isinstance(options, Lidc):
        from gen_radiology.sources.lidc import find_lidc

        kind, found = "CT series with readings", find_lidc(root, options)
    else:
        from gen_radiology.sources.dicom import find_dicom

        assert isinstance(options, Dicom)
        kind, found = "DICOM series", find_dicom(root, options)
    if not found.sources:
        why = f" ({'; '.join(found.notes[:3])})" if found.notes else ""
        raise DataError(f"dataset.root: no {kind} in '{root}'{why}; {PHANTOM}")
    found.sources.sort(key=lambda s: s.id)
    return found
