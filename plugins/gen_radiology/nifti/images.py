"""NIfTI files as images in the patient, one a time point."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_radiology.nifti.file import RAS_TO_LPS, open_nifti, stem_of
from gen_radiology.volumes.image import Image


def read_images(path: Path | str) -> list[Image]:
    """The volumes of a file: one, or one a time point (ids STEM-t000, ...). Nothing is resampled or flipped.

    array: (z, y, x) float32, nibabel's (k, j, i), scaled. subject and id: the stem of the file's name.
    Raises: DataError naming the file, for damaged files and for more than one axis beside x, y, z.
    """
    path = Path(path)
    file = open_nifti(path)
    array = file.values("f4")
    array = array.reshape(array.shape[-3:] if array.ndim <= 3 else _times(path, array.shape))
    array = array.reshape((1,) * max(0, 3 - array.ndim) + array.shape)
    affine = (RAS_TO_LPS @ file.affine)[:, [2, 1, 0, 3]]
    times = array if array.ndim == 4 else array[None]
    images = []
    for t, values in enumerate(times):
        warnings = list(file.warnings)
        strange = int(values.size - np.isfinite(values).sum())
        if strange:
            warnings.append(f"{strange} of {values.size} values are not finite")
        name = stem_of(path) if len(times) == 1 else f"{stem_of(path)}-t{t:03d}"
        meta = {**file.meta, **({"time_index": t} if len(times) > 1 else {})}
        images.append(Image(values, affine.copy(), name, stem_of(path), files=(path,), warnings=warnings, meta=meta))
    return images


def _times(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """(..., z, y, x) -> (t, z, y, x) or (z, y, x): axes of one voxel beyond the third are dropped."""
    beyond = [n for n in shape[:-3] if n > 1]
    if len(beyond) > 1:
        raise DataError(f"{path}: field 'dim' is {list(shape[::-1])}, expected one axis at most beside x, y, z")
    return (*beyond, *shape[-3:])
