"""How physical values map to [-1, 1]: band by band, estimated over the training volumes only.

Quantiles come from streamed histograms that are refined around the wanted rank: two passes narrow each band
to a 2^-24 part of its range, without holding the volumes in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from gen_core.errors import DataError
from gen_core.volume import Scale

BINS = 4096


class LazyScale(Scale):
    """A scale that is estimated when it is first asked for: a spec exists before any volume was read."""

    def __init__(self, estimate: Callable[[], Scale]):
        object.__setattr__(self, "_estimate", estimate)

    @property
    def lo(self) -> np.ndarray:  # type: ignore[override]
        return self._estimate().lo

    @property
    def hi(self) -> np.ndarray:  # type: ignore[override]
        return self._estimate().hi


def fixed_scale(lo: tuple[float, ...], hi: tuple[float, ...], depth: int) -> Scale:
    """A scale given in the recipe: one number for all bands, or one a band. Raises: DataError."""
    both = []
    for key, values in (("lo", lo), ("hi", hi)):
        if len(values) not in (1, depth):
            raise DataError(f"dataset.scale.{key} has {len(values)} numbers, expected 1 or {depth} (one a band)")
        both.append(np.broadcast_to(np.asarray(values, np.float32), (depth,)).copy())
    if not (both[0] < both[1]).all():
        raise DataError("dataset.scale.lo must lie below dataset.scale.hi in every band")
    return _scale(*both)


def _scale(lo: np.ndarray, hi: np.ndarray) -> Scale:
    return Scale(lo.reshape(1, -1, 1, 1).astype(np.float32), hi.reshape(1, -1, 1, 1).astype(np.float32))


def estimate_scale(
    volumes: Callable[[], Iterable[np.ndarray]], low: float, high: float, per_band: bool = True
) -> Scale:
    """The scale between two quantiles of the finite values.

    volumes: gives the training volumes (D, H, W) afresh at each call; they are read several times.
    low, high: quantiles in [0, 1]; 0 and 1 are the extremes, exactly. A constant band gets a range of 1.
    """
    rows = (lambda v: v.reshape(len(v), -1)) if per_band else (lambda v: v.reshape(1, -1))
    least, most, count = _extremes(rows(np.asarray(v)) for v in volumes())
    if not (count > 0).all():
        raise DataError("a band has no valid value in any training volume: nothing to scale by")
    lo = least if low == 0 else _quantile(volumes, rows, low, least, most, count)
    hi = most if high == 1 else _quantile(volumes, rows, high, least, most, count)
    flat = hi - lo <= np.abs(hi) * 1e-6
    hi = np.where(flat, lo + 1.0, hi)
    if not per_band:
        depth = len(np.asarray(next(iter(volumes()))))
        lo, hi = np.repeat(lo, depth), np.repeat(hi, depth)
    return _scale(lo, hi)


def _extremes(parts: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    least = most = count = None
    for part in parts:
        finite = np.isfinite(part)
        some = np.where(finite, part, np.inf).min(axis=1).astype(np.float64)
        top = np.where(finite, part, -np.inf).max(axis=1).astype(np.float64)
        number = finite.sum(axis=1)
        if least is None:
            least, most, count = some, top, number
        else:
            least, most, count = np.minimum(least, some), np.maximum(most, top), count + number
    if least is None:
        raise DataError("there is no training volume to scale by")
    return least, most, count


def _quantile(
    volumes: Callable[[], Iterable[np.ndarray]],
    rows: Callable[[np.ndarray], np.ndarray],
    q: float,
    least: np.ndarray,
    most: np.ndarray,
    count: np.ndarray,
) -> np.ndarray:
    """Per row the value of rank q (n - 1), to (most - least) / BINS^2."""
    low, high = least.copy(), np.maximum(most, np.nextafter(least, np.inf))
    rank = q * (count - 1)
    for _ in range(2):
        width = (high - low) / BINS
        below = np.zeros(len(low), np.int64)
        histogram = np.zeros((len(low), BINS), np.int64)
        for volume in volumes():
            for b, values in enumerate(rows(np.asarray(volume))):
                values = values[np.isfinite(values)].astype(np.float64)
                if width[b] <= 0:
                    continue
                below[b] += int((values < low[b]).sum())
                inside = values[(values >= low[b]) & (values <= high[b])]
                bins = np.minimum(((inside - low[b]) / width[b]).astype(np.int64), BINS - 1)
                histogram[b] += np.bincount(bins, minlength=BINS)
        through = below[:, None] + np.cumsum(histogram, axis=1)
        bin_ = np.minimum((through <= rank[:, None]).sum(axis=1), BINS - 1)
        low, high = low + bin_ * width, low + (bin_ + 1) * width
    return 0.5 * (low + high)
