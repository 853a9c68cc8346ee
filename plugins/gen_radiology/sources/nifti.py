"""NIfTI images as sources, with mask files found by pattern beside them."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError
from gen_radiology.dataset_options import Nifti
from gen_radiology.nifti.file import open_nifti, stem_of
from gen_radiology.nifti.images import read_images
from gen_radiology.nifti.label_masks import read_label_masks
from gen_radiology.sources.source import Found, Source, subject_of
from gen_radiology.volumes.image import Image, MaskSet

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@define(eq=False)
class NiftiSource(Source):
    """The t-th time point of a NIfTI file, with the mask files beside it."""

    path: Path = Path()
    t: int = 0
    options: Nifti | None = None
    masks: dict[str, Path] = Factory(dict)
    labels: Path | None = None

    def grid(self) -> tuple[tuple[int, int, int], np.ndarray]:
        header = open_nifti(self.path)
        x, y, z = (*header.shape, 1, 1)[:3]
        return (z, y, x), (RAS_TO_LPS @ header.affine)[:, [2, 1, 0, 3]]

    def read(self, masks: bool) -> tuple[Image, MaskSet]:
        assert self.options is not None
        image = read_images(self.path)[self.t]
        image.units, image.modality = "HU" if self.modality == "CT" else "", self.modality
        found = MaskSet()
        if not masks:
            return image, found
        for name, path in self.masks.items():
            one = read_label_masks(path, image)
            if one.masks:
                found.masks[name] = np.logical_or.reduce(list(one.masks.values()))
            found.notes += one.notes
        if self.labels is not None:
            asked = {value: name for name, value in self.options.labels.items() if name in self.options.masks}
            one = read_label_masks(self.labels, image, asked)
            found.masks |= one.masks
            found.notes += one.notes
        return image, found


def _mask_path(root: Path, image: Path, pattern: str) -> Path:
    """The file of a pattern for one image: {id}, {stem} and {folder} filled in, below root."""
    folder, stem = image.parent.relative_to(root).as_posix(), stem_of(image)
    below = stem if folder == "." else f"{folder}/{stem}"
    filled = pattern.replace("{id}", below).replace("{stem}", stem).replace("{folder}", folder)
    return Path(os.path.normpath(root / filled))


def find_nifti(root: Path, options: Nifti) -> Found:
    """The images of a folder: what the pattern finds and no mask pattern does. Raises: DataError."""
    patterns = {**options.mask_files, **({"labels_file": options.labels_file} if options.labels_file else {})}
    try:
        paths = sorted(p for p in root.glob(options.pattern) if p.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"dataset.pattern = '{options.pattern}': {error}") from None
    paths = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    shapes = [_mask_shape(pattern) for pattern in patterns.values()]
    masks = {_mask_path(root, path, pattern) for path in paths for pattern in patterns.values()}
    found = Found([])
    for path in paths:
        relative = path.relative_to(root)
        if path in masks or any(shape.fullmatch(relative.as_posix()) for shape in shapes):
            continue
        id = (relative.parent / stem_of(path)).as_posix()
        beside = {name: _mask_path(root, path, pattern) for name, pattern in patterns.items()}
        beside = {name: file for name, file in beside.items() if file.is_file()}
        labels = beside.pop("labels_file", None)
        wanted = {name: file for name, file in beside.items() if name in options.masks}
        times = 1
        try:
            times = math.prod(open_nifti(path).shape[3:])
        except DataError:
            pass  # told when it is read, under the policy for unreadable files
        for t in range(times):
            found.sources.append(
                NiftiSource(
                    f"{id}-t{t:03d}" if times > 1 else id,
                    subject_of(Path(id), options.subject) if options.subject else id,
                    str(path),
                    options.modality.upper(),
                    (path,),
                    (*wanted.values(), *((labels,) if labels else ())),
                    path=path,
                    t=t,
                    options=options,
                    masks=wanted,
                    labels=labels,
                )
            )
    twice = next((i for i, n in Counter(s.id for s in found.sources).items() if n > 1), None)
    if twice:
        raise DataError(f"dataset.root: '{twice}' is there with two suffixes; choose one by dataset.pattern")
    return found


def _mask_shape(pattern: str) -> re.Pattern[str]:
    """What files of a mask pattern look like below root: masks whose image is missing are no images either."""
    text = re.escape(os.path.normpath(pattern.replace("{folder}", "{id}")))
    return re.compile(text.replace(re.escape("{id}"), ".+").replace(re.escape("{stem}"), "[^/]+"))
