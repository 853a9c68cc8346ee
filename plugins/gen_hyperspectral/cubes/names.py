"""Names of cube files: their stem, and an order in which band2 comes before band10."""

from __future__ import annotations

import re
from pathlib import PurePath

DOUBLE = (".nii.gz",)


def stem_of(path: PurePath) -> str:
    """The name without its suffix: `a` of a.npy, a.nii.gz and a.zarr."""
    for suffix in DOUBLE:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort names by, numbers as numbers."""
    parts = re.split(r"([0-9]+)", name.lower())
    return (*((0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts), (2, 0, name))
