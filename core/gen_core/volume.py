"""A volume and what travels with it: spec, scale, geometry, masks, subject, id and content hash.

Shape legend: C channels, D depth (slices, or bands in rising wavelength), H rows, W columns.
This module needs numpy only; `batch.py` turns samples into tensors.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from attrs import Factory, define, frozen

from gen_core.errors import DataError


@frozen
class VolumeSpec:
    """What every volume of a data set has in common.

    size: (D, H, W). depth: "bands", "slices" or "none" (2-D images, D = 1).
    wavelength_nm: D rising wavelengths where depth is "bands". spacing_mm: (D, H, W) or None.
    scale: how [-1, 1] maps to physical values, per channel and band; used for synthetic volumes.
    classes: names of each class among the samples' condition values; other values are scalars.
    """

    size: tuple[int, int, int]
    channels: tuple[str, ...] = ("intensity",)
    depth: str = "bands"
    wavelength_nm: tuple[float, ...] | None = None
    units: str = ""
    spacing_mm: tuple[float, float, float] | None = None
    scale: Scale = Factory(lambda: Scale.unit())
    masks: tuple[str, ...] = ()
    classes: dict[str, tuple[str, ...]] = Factory(dict)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, D, H, W)."""
        return (len(self.channels), *self.size)


@frozen(eq=False)
class Scale:
    """The affine map between physical values and [-1, 1]: lo -> -1, hi -> +1, both broadcastable to (C, D, 1, 1)."""

    lo: np.ndarray
    hi: np.ndarray

    @classmethod
    def unit(cls) -> Scale:
        """The identity: physical values already lie in [-1, 1]."""
        return cls(np.full((1, 1, 1, 1), -1.0, np.float32), np.full((1, 1, 1, 1), 1.0, np.float32))

    def to_unit(self, physical: np.ndarray) -> np.ndarray:
        """Physical values (C, D, H, W) to [-1, 1]; values outside lo..hi leave the range (clip where wanted)."""
        return (2.0 * (physical - self.lo) / (self.hi - self.lo) - 1.0).astype(np.float32)

    def to_physical(self, x: np.ndarray) -> np.ndarray:
        """x (C, D, H, W) in [-1, 1] to physical values."""
        return (self.lo + (x + 1.0) * 0.5 * (self.hi - self.lo)).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"lo": self.lo.tolist(), "hi": self.hi.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scale:
        return cls(np.asarray(data["lo"], np.float32), np.asarray(data["hi"], np.float32))


@frozen(eq=False)
class Geometry:
    """Where the voxels lie: affine (4, 4) from (d, h, w) index to LPS mm, and the crops and resamples on the way."""

    affine: np.ndarray = Factory(lambda: np.eye(4))
    history: tuple[str, ...] = ()


@define(eq=False)
class Sample:
    """One volume with its company.

    x: (C, D, H, W) float32 in [-1, 1].
    masks: name -> (D or 1, H, W) bool; depth 1 means "the same in every band". `valid` marks real data.
    condition: name -> float of a scalar (NaN = unknown), int of a class (index into VolumeSpec.classes, -1 = unknown).
    hash: SHA-256 of the source content; equal content, equal hash.
    """

    x: np.ndarray
    id: str
    subject: str
    hash: str
    scale: Scale = Factory(Scale.unit)
    geometry: Geometry = Factory(Geometry)
    masks: dict[str, np.ndarray] = Factory(dict)
    condition: dict[str, Any] = Factory(dict)


def content_hash(array: np.ndarray) -> str:
    """SHA-256 over shape and the C-contiguous little-endian float32 bytes."""
    array = np.ascontiguousarray(array, dtype="<f4")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def check_sample(sample: Sample, spec: VolumeSpec) -> None:
    """Refuse a sample that breaks the contract. Raises: DataError naming the sample's id."""
    x = sample.x
    if x.shape != spec.shape or x.dtype != np.float32:
        raise DataError(f"{sample.id}: volume is {x.shape} {x.dtype}, expected {spec.shape} float32")
    if not np.isfinite(x).all():
        raise DataError(f"{sample.id}: volume holds NaN or infinite values after its policy was applied")
    if np.abs(x).max(initial=0) > 1 + 1e-6:
        raise DataError(f"{sample.id}: values leave [-1, 1] ({x.min():.4g}..{x.max():.4g})")
    for name, mask in sample.masks.items():
        if mask.dtype != bool or mask.shape not in (spec.size, (1, *spec.size[1:])):
            raise DataError(
                f"{sample.id}: mask '{name}' is {mask.shape} {mask.dtype}, expected {spec.size} or 1 x H x W bool"
            )
