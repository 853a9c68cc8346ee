"""How physical values map to [-1, 1]: band by band, estimated over the training volumes only.

Quantiles come from streamed histograms that are refined around the wanted rank: two passes narrow each band
to a 2^-24 part of its range, without holding the volumes in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gen_core.errors import DataError
from gen_core.mapped import release
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
    ranks = [q * (count - 1) for q in (low, high) if 0 < q < 1]
    found = iter(_by_rank(volumes, rows, ranks, least, most) if ranks else [])
    lo, hi = (least if q == 0 else most if q == 1 else next(found) for q in (low, high))
    flat = hi - lo <= np.abs(hi) * 1e-6
    hi = np.where(flat, lo + 1.0, hi)
    if not per_band:
        depth = len(np.asarray(next(iter(volumes()))))
        lo, hi = np.repeat(lo, depth), np.repeat(hi, depth)
    return _scale(lo, hi)


def _finite(values: np.ndarray) -> np.ndarray:
    """The finite values of one band; the pages behind a mapped volume are handed back."""
    kept = values[np.isfinite(values)]
    release(values)
    return kept


def _extremes(parts: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per row the least and the largest finite value and how many there are."""
    least: np.ndarray | None = None
    for part in parts:
        if least is None:
            least, most = np.full(len(part), np.inf), np.full(len(part), -np.inf)
            count = np.zeros(len(part), np.int64)
        for b, row in enumerate(part):  # band by band: temporaries of one band only
            values = _finite(row)
            if values.size:
                least[b], most[b] = min(least[b], values.min()), max(most[b], values.max())
                count[b] += values.size
    if least is None:
        raise DataError("there is no training volume to scale by")
    return least, most, count


def _by_rank(
    volumes: Callable[[], Iterable[np.ndarray]],
    rows: Callable[[np.ndarray], np.ndarray],
    ranks: list[np.ndarray],
    least: np.ndarray,
    most: np.ndarray,
) -> list[np.ndarray]:
    """For each wanted rank the value of every row, to (most - least) / BINS^2; two passes serve all ranks."""
    top = np.where(most > least, most, least + 1.0)
    brackets = [(least, top)]  # the first histogram is shared
    for step in range(2):
        counts = [_histogram(volumes, rows, low, high) for low, high in brackets]
        counts = counts if step else counts * len(ranks)
        brackets = brackets if step else brackets * len(ranks)
        brackets = [_narrow(*bracket, *count, rank) for bracket, count, rank in zip(brackets, counts, ranks)]
    return [0.5 * (low + high) for low, high in brackets]


def _narrow(
    low: np.ndarray, high: np.ndarray, below: np.ndarray, histogram: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The bin that holds the value of a rank."""
    through = below[:, None] + np.cumsum(histogram, axis=1)
    at = np.minimum((through <= rank[:, None]).sum(axis=1), BINS - 1)
    width = (high - low) / BINS
    return low + at * width, low + (at + 1) * width


def _histogram(
    volumes: Callable[[], Iterable[np.ndarray]],
    rows: Callable[[np.ndarray], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Per row how many values lie below `low`, and the histogram of those in low..high."""
    below = np.zeros(len(low), np.int64)
    histogram = np.zeros((len(low), BINS), np.int64)
    for volume in volumes():
        for b, row in enumerate(rows(np.asarray(volume))):
            values = _finite(row).astype(np.float64)
            below[b] += int(np.count_nonzero(values < low[b]))
            values = values[(values >= low[b]) & (values <= high[b])]
            bins = np.minimum((values - low[b]) * (BINS / (high[b] - low[b])), BINS - 1).astype(np.int64)
            histogram[b] += np.bincount(bins, minlength=BINS)
    return below, histogram
