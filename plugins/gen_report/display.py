"""From volumes to what an eye can see: bands by wavelength, colours with one transform for real and synthetic.

x: (C, D, H, W) in [-1, 1]; physical: the same in the units of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

TOP, BOTTOM = 99.7, 0.3  # percentiles of real values that become white and black
HEADROOM = np.array([1.0, 1.3, 1.7])  # of red, green, blue bands: tissue stays warm, as eyes know it


def nearest_bands(wavelength_nm: Sequence[float], targets: Sequence[float]) -> list[int]:
    """For each target the index of the nearest band; a band is named once, order kept."""
    nm = np.asarray(wavelength_nm, float)
    return list(dict.fromkeys(int(np.abs(nm - t).argmin()) for t in targets))


def shown_planes(spec: Any, targets: Sequence[float], most: int = 6) -> list[tuple[int, str]]:
    """(depth index, label) of the planes worth showing: bands near the targets, or slices spread over the depth."""
    depth = spec.size[0]
    if spec.wavelength_nm:
        return [(k, f"{spec.wavelength_nm[k]:.0f} nm") for k in nearest_bands(spec.wavelength_nm, targets)]
    if depth == 1:
        return [(0, "image")]
    edges = (np.arange(min(depth, most)) + 0.5) / min(depth, most)
    name = "slice" if spec.depth == "slices" else "plane"
    return [(int(k), f"{name} {int(k) + 1} of {depth}") for k in np.unique((edges * depth).astype(int))]


def fitted_to(plane: np.ndarray, most: int) -> np.ndarray:
    """(H, W[, 3]) reduced by whole-number block means until no side exceeds `most` pixels."""
    factor = max(1, -(-max(plane.shape[:2]) // most))
    if factor == 1:
        return plane
    h, w = (n // factor * factor for n in plane.shape[:2])
    cut = plane[:h, :w]
    return cut.reshape(h // factor, factor, w // factor, factor, *plane.shape[2:]).mean((1, 3))


@frozen(eq=False)
class Colours:
    """The display transform: three (channel, depth) planes, each stretched from lo..hi of the real volumes."""

    planes: tuple[tuple[int, int], ...]
    lo: np.ndarray
    hi: np.ndarray
    about: str

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(C, D, H, W) -> (H, W, 3) in [0, 1]."""
        rgb = np.stack([x[c, d] for c, d in self.planes], -1)
        return np.clip((rgb - self.lo) / np.maximum(self.hi - self.lo, 1e-6), 0, 1)


def colours(spec: Any, volumes: Sequence[np.ndarray], rgb_nm: Sequence[float]) -> Colours:
    """The transform fitted to `volumes` (real ones, where there are any)."""
    channels, depth = len(spec.channels), spec.size[0]
    if spec.wavelength_nm and depth >= 3:
        nm = np.asarray(spec.wavelength_nm, float)
        bands = [int(np.abs(nm - t).argmin()) for t in rgb_nm]
        planes = tuple((0, b) for b in bands)
        about = "bands at " + ", ".join(f"{nm[b]:.0f}" for b in bands) + " nm as red, green, blue"
    elif channels == 3 and depth == 1:
        planes, about = ((0, 0), (1, 0), (2, 0)), "the three channels as red, green, blue"
    else:
        planes = ((0, depth // 2),) * 3
        about = "grey" if depth == 1 else "the middle plane in grey"
    headroom = HEADROOM if spec.wavelength_nm and depth >= 3 else 1.0
    values = np.stack([[np.percentile(v[c, d], (BOTTOM, TOP)) for c, d in planes] for v in volumes[:16]])
    lo, hi = np.median(values, 0).T
    return Colours(planes, lo, lo + (hi - lo) * headroom, about)


def mosaic(tiles: Sequence[np.ndarray], columns: int, side: int, gap: int = 2) -> np.ndarray:
    """Tiles (H, W, 3) in rows on white, reduced or repeated whole-number times to about `side` pixels."""
    tiles = [fitted_to(t, side) for t in tiles]
    repeat = max(1, side // max(tiles[0].shape[:2]))
    tiles = [t.repeat(repeat, 0).repeat(repeat, 1) for t in tiles]
    h, w = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    page = np.ones((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), np.float32)
    for k, tile in enumerate(tiles):
        y, x = divmod(k, columns)
        page[y * (h + gap) : y * (h + gap) + h, x * (w + gap) : x * (w + gap) + w] = tile
    return page
