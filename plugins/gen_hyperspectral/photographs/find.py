"""The photographs of a folder: found, named and given to a subject."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from gen_core.errors import DataError
from gen_hyperspectral.cubes.subjects import subject_of
from gen_hyperspectral.photographs.dataset_options import FundusPhotographs
from gen_hyperspectral.photographs.planes import SUFFIXES


@frozen
class Photograph:
    """One image. id: its path below the root without suffix, forward slashes."""

    path: Path
    id: str
    subject: str


def find_photographs(options: FundusPhotographs) -> list[Photograph]:
    """Every photograph below `dataset.root`, by path. Raises: DataError when there is none."""
    o = options
    if not o.root:
        raise DataError("dataset.root is not set: name a folder of photographs (--set dataset.root=DIR)")
    root = Path(o.root).expanduser()
    if not root.is_dir():
        raise DataError(f"dataset.root: '{root}' is no folder")
    masks = [re.compile(re.escape(m).replace(re.escape("{stem}"), ".+") + r"\Z") for m in o.masks.values()]
    found = []
    for path in sorted(root.glob(o.pattern)):
        name = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in name.parts):
            continue
        if not any(mask.match(name.as_posix()) for mask in masks):
            found.append(Photograph(path, name.with_suffix("").as_posix(), subject_of(name, o.subject)))
    if not found:
        raise DataError(
            f"dataset.root: no photograph ({', '.join(SUFFIXES)}) in '{root}' (dataset.pattern = '{o.pattern}')"
        )
    ids = [p.id for p in found]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice:
        raise DataError(f"dataset.root: '{twice}' is there with two suffixes; choose one by dataset.pattern")
    return found
