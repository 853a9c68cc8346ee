"""Which source bands make the D bands of a volume: the nearest ones, or a Gaussian-weighted mean of many.

All wavelengths are in nm; the bands of a volume rise in wavelength.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

from gen_core.errors import DataError

FWHM_TO_SIGMA = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
NEGLIGIBLE = 1e-4  # weights under this share of the largest are dropped: the bands need not be read


@frozen(eq=False)
class Selection:
    """index: source bands to read, (K,). weights: (D, K) float32, rows sum to 1; None where D = K bands are picked."""

    index: np.ndarray
    weights: np.ndarray | None = None

    @property
    def depth(self) -> int:
        return len(self.index) if self.weights is None else len(self.weights)


def good_bands(bands: int, bad: np.ndarray | None, listed: tuple[int, ...] = ()) -> np.ndarray:
    """Indices of the usable bands. listed: further bad bands (0-based), from the recipe. Raises: DataError."""
    good = np.ones(bands, bool) if bad is None else ~np.asarray(bad, bool)
    for band in listed:
        if not 0 <= band < bands:
            raise DataError(f"dataset.bad_bands names band {band}; the cube has bands 0..{bands - 1}")
        good[band] = False
    if not good.any():
        raise DataError("every band of the cube is marked bad (bbl or dataset.bad_bands)")
    return np.flatnonzero(good)


def evenly(good: np.ndarray, wavelength: np.ndarray | None, depth: int) -> np.ndarray:
    """`depth` of the good bands, evenly spaced in rank, in rising wavelength. Raises: DataError."""
    if depth > len(good):
        raise DataError(f"volume.size asks for {depth} bands, the cube has {len(good)} good ones")
    if wavelength is not None:
        good = good[np.argsort(wavelength[good], kind="stable")]
    return good[np.rint(np.linspace(0, len(good) - 1, depth)).astype(int)]


def nearest(wavelength: np.ndarray, good: np.ndarray, targets: np.ndarray, tolerance_nm: float) -> Selection:
    """For each target the good band nearest in wavelength. Raises: DataError when one is too far."""
    distance = np.abs(wavelength[good][None, :] - np.asarray(targets)[:, None])
    best = distance.argmin(axis=1)
    for target, d, b in zip(targets, distance.min(axis=1), good[best]):
        if d > tolerance_nm:
            raise DataError(
                f"no good band within {tolerance_nm:g} nm of {target:g} nm (nearest: {wavelength[b]:.4g} nm); "
                f"see volume.wavelengths_nm and dataset.tolerance_nm"
            )
    return Selection(good[best])


def gaussian(wavelength: np.ndarray, good: np.ndarray, targets: np.ndarray, fwhm_nm: np.ndarray | float) -> Selection:
    """For each target the mean spectrum under a Gaussian of that full width at half maximum.

    The integral over wavelength is a sum over the good bands, each weighted with its spacing, so an irregular
    grid does not favour where bands are dense. Raises: DataError when no band lies within one width.
    """
    order = good[np.argsort(wavelength[good], kind="stable")]
    at = wavelength[order]
    spacing = np.gradient(at) if len(at) > 1 else np.ones(1)
    targets = np.asarray(targets, np.float64)
    fwhm = np.broadcast_to(np.asarray(fwhm_nm, np.float64), targets.shape)
    for target, width in zip(targets, fwhm):
        near = np.abs(at - target).min()
        if near > width:
            raise DataError(
                f"no good band within {width:g} nm of {target:g} nm (nearest is {near:.4g} nm away); "
                f"see volume.wavelengths_nm and dataset.fwhm_nm"
            )
    weights = np.exp(-0.5 * ((at[None] - targets[:, None]) / (fwhm * FWHM_TO_SIGMA)[:, None]) ** 2) * spacing
    weights[weights < NEGLIGIBLE * weights.max(axis=1, keepdims=True)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    return Selection(order[used], weights[:, used].astype(np.float32))
