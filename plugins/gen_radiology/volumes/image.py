"""One scalar volume in physical values with its place in the patient, and masks on its grid.

Axes are (z, y, x): z the stack of slices, rising along `row x col` of the image; y rows, x columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define


@define(eq=False)
class Image:
    """array: (z, y, x) float32. affine: (4, 4) float64 from voxel index (z, y, x, 1) to LPS mm.

    id: unique in its folder. subject: the patient. modality: "CT", "MR", ... units: "HU" for CT.
    slice_uids: SOP Instance UID of each slice where there are any. meta: header facts as JSON.
    """

    array: np.ndarray
    affine: np.ndarray
    id: str
    subject: str
    modality: str = ""
    units: str = ""
    files: tuple[Path, ...] = ()
    slice_uids: tuple[str, ...] = ()
    warnings: list[str] = Factory(list)
    meta: dict[str, Any] = Factory(dict)

    @property
    def spacing(self) -> np.ndarray:
        """(3,) mm between neighbours along z, y, x."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def origin(self) -> np.ndarray:
        """(3,) LPS mm of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3]

    @property
    def directions(self) -> np.ndarray:
        """(3, 3): unit vectors of z, y, x as columns."""
        return self.affine[:3, :3] / self.spacing

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """LPS mm (n, 3) -> fractional voxel index (n, 3) in (z, y, x)."""
        inverse = np.linalg.inv(self.affine)
        return points @ inverse[:3, :3].T + inverse[:3, 3]


@define(eq=False)
class MaskSet:
    """masks: name -> (z, y, x) bool on an image's grid. notes: what was left out, moved or guessed, one line each."""

    masks: dict[str, np.ndarray] = Factory(dict)
    notes: list[str] = Factory(list)
    meta: dict[str, Any] = Factory(dict)
