"""Label maps of NIfTI as masks on an image's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gen_core.errors import DataError
from gen_radiology.nifti.file import stem_of
from gen_radiology.nifti.images import read_images
from gen_radiology.volumes.image import Image, MaskSet
from gen_radiology.volumes.placing import find_window, grid_difference, resample_nearest


def read_label_masks(
    path: Path | str, image: Image, names: dict[int, str] | None = None, resample: bool = False
) -> MaskSet:
    """A label map as masks on an image's grid: one mask a value, 0 is the background.

    names: value -> name; values that it leaves out are left out here and noted, values that the file lacks give
    empty masks. Without names: "label-N", or the file's stem when 1 is the only label. Axes in another order or
    direction are brought to the image's; values in [0, 1] are cut at 0.5. resample: nearest, on any other grid.
    Raises: DataError for a map on another grid, without labels, or with values that are no labels.
    """
    path = Path(path)
    found = read_images(path)
    if len(found) > 1:
        raise DataError(f"{path}: {len(found)} time points, expected one label map")
    labels, notes = found[0].array, list(found[0].warnings)
    labels = np.nan_to_num(labels, nan=0.0, posinf=-1.0, neginf=-1.0)
    if labels.min() < 0:
        raise DataError(f"{path}: values down to {labels.min():g}, labels start at 0")
    present = np.unique(labels)
    if (present != np.rint(present)).any():
        if present[-1] > 1:
            raise DataError(f"{path}: values such as {present[present != np.rint(present)][0]:g} are no labels")
        notes.append(f"{path.name}: values between 0 and 1: inside where at least 0.5")
        labels = (labels >= 0.5).astype(np.float32)
        present = np.unique(labels)
    values = [int(v) for v in present if v]
    if names is None:
        if len(values) > 255:
            raise DataError(f"{path}: {len(values)} different values: an image, not a label map")
        names = {v: f"label-{v}" for v in values} if values != [1] else {1: stem_of(path)}
    unnamed = [v for v in values if v not in names]
    if unnamed:
        notes.append(f"{path.name}: labels without a name left out: {', '.join(map(str, unnamed[:20]))}")
    affine = found[0].affine
    window = find_window(labels.shape, affine, image)
    if window is not None:
        placed = np.zeros(image.array.shape, np.float32)
        _, outside = window.put(labels, placed)
        if outside:
            notes.append(f"{path.name}: {outside} labelled voxels lie outside the image: left out")
    elif resample:
        placed = resample_nearest(labels, affine, image)
        notes.append(f"{path.name}: on another grid: resampled to the nearest voxel")
    else:
        raise DataError(f"{path}: lies on another grid than {image.id} ({grid_difference(labels, affine, image)})")
    return MaskSet({name: placed == value for value, name in names.items()}, notes, {"labels": dict(names)})
