"""A block of given size out of a volume, padded where it reaches beyond: at the centre, the patient or a mask.

Shape legend: (z, y, x) voxels. A corner may be negative: the block begins outside the volume. What lies outside is NaN
in physical values until the scale is applied, False in masks, and False in the mask `valid`.
"""

from __future__ import annotations

import numpy as np

from gen_core.errors import DataError
from gen_radiology.datasets.hu import otsu

AIR_HU = -500.0  # between air (-1000) and everything solid or liquid, in CT

Corner = tuple[int, int, int]


def centred(shape: tuple[int, ...], size: tuple[int, ...]) -> Corner:
    """The corner of a block about the centre of a volume; half a voxel towards the origin where parities differ."""
    z, y, x = ((n - m) // 2 for n, m in zip(shape, size))
    return (z, y, x)


def around(centre: np.ndarray, size: tuple[int, ...]) -> Corner:
    """The corner of a block whose middle is nearest to a (fractional) voxel index."""
    z, y, x = (int(np.floor(c - (m - 1) / 2 + 0.5)) for c, m in zip(centre, size))
    return (z, y, x)


def extent(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """First and last voxel index (3,) of a mask along each axis; None where it is empty."""
    ends = []
    for k in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != k)))
        if not hit.size:
            return None
        ends.append((hit[0], hit[-1]))
    low, high = np.array(ends, np.float64).T
    return low, high


def middle(mask: np.ndarray) -> np.ndarray | None:
    """The middle (3,) of a mask's extent; None where it is empty."""
    ends = extent(mask)
    return None if ends is None else (ends[0] + ends[1]) / 2


def inside(corner: Corner, low: tuple[int, ...], high: tuple[int, ...], size: tuple[int, ...]) -> Corner:
    """The corner moved so that the block stays within low..high where it fits; centred there where it does not."""
    moved = []
    for c, a, b, m in zip(corner, low, high, size):
        moved.append(a + (b - a - m) // 2 if b - a < m else min(max(c, a), b - m))
    z, y, x = moved
    return (z, y, x)


def patient(volume: np.ndarray, units: str) -> np.ndarray:
    """Where the patient is, roughly: denser than air in CT, above Otsu's threshold elsewhere. Bool of the shape."""
    finite = np.isfinite(volume)
    if not finite.any():
        return finite
    threshold = AIR_HU if units == "HU" else otsu(volume[finite])
    with np.errstate(invalid="ignore"):
        return finite & (volume > threshold)


def place(
    volume: np.ndarray, masks: dict[str, np.ndarray], size: tuple[int, int, int], at: str, units: str, name: str
) -> tuple[Corner, str]:
    """The corner of a block of `size`, and how it was found.

    at: "centre" of the field of view; "foreground", the middle of the patient; or the name of a mask, the middle of
    its extent. A block that fits stays inside the volume. Where there is nothing to be found, it is the centre, and
    said so. Raises: DataError when `at` names no mask that was read; `name` is the volume's.
    """
    if at == "centre":
        return centred(volume.shape, size), "centre"
    if at != "foreground" and at not in masks:
        raise DataError(f"{name}: dataset.at = '{at}' is no mask of dataset.masks ({', '.join(masks) or 'none'})")
    found = middle(patient(volume, units) if at == "foreground" else masks[at])
    if found is None:
        return centred(volume.shape, size), f"centre: {at} is empty"
    return inside(around(found, size), (0, 0, 0), volume.shape, size), at


def cut(array: np.ndarray, corner: Corner, size: tuple[int, int, int]) -> np.ndarray:
    """The block (z, y, x) of a volume (NaN outside) or mask (False outside); a copy."""
    out = np.zeros(size, bool) if array.dtype == bool else np.full(size, np.nan, np.float32)
    source = tuple(slice(max(c, 0), max(min(c + m, n), 0)) for c, m, n in zip(corner, size, array.shape))
    target = tuple(slice(max(-c, 0), max(-c, 0) + max(s.stop - s.start, 0)) for c, s in zip(corner, source))
    if all(s.stop > s.start for s in source):
        out[target] = array[source]
    return out


def moved(affine: np.ndarray, corner: Corner) -> np.ndarray:
    """The affine of a block that begins at `corner`."""
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, :3] @ np.asarray(corner, np.float64)
    return shifted


def describe(shape: tuple[int, ...], corner: Corner, size: tuple[int, ...], how: str) -> str:
    """The line of `Geometry.history`."""
    by = " x ".join
    reach = any(c < 0 or c + m > n for c, m, n in zip(corner, size, shape))
    verb = "crop and pad" if reach else "crop"
    return f"{verb} {by(map(str, shape))} -> {by(map(str, size))} from {', '.join(map(str, corner))} ({how})"
