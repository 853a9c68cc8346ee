"""Physical values to [-1, 1] and back: a window in HU for CT, percentiles of the foreground where units mean nothing.

CT values are physical, so one window serves every volume. MR values differ in gain from scan to scan, so each volume
is scaled by percentiles of its own foreground unless the gain is known to be one (`of = "training"`).
Source: percentile landmarks, Nyul & Udupa 1999, sec. 2; threshold, Otsu 1979, eq. 18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gen_core.errors import DataError
from gen_core.volume import Scale
from gen_radiology.dataset_options import Intensity

HISTOGRAM = 1 << 16  # bins: the upper half of a float32's 32 bits


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


def window(lo: float, hi: float) -> Scale:
    """lo becomes -1, hi +1. Raises: DataError unless lo < hi."""
    if not lo < hi:
        raise DataError(f"dataset.scale: lo = {lo:g} must lie below hi = {hi:g}")
    return Scale(np.full((1, 1, 1, 1), lo, np.float32), np.full((1, 1, 1, 1), hi, np.float32))


def to_unit(volume: np.ndarray, scale: Scale, pad: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """x (1, D, H, W) in [-1, 1] of physical values (D, H, W), and where they are valid.

    pad: the physical value of voxels without data (not finite); none = the lower end of the scale.
    """
    valid = np.isfinite(volume)
    empty = float(scale.lo.min()) if pad is None else pad
    filled = volume if valid.all() else np.where(valid, volume, np.float32(empty))
    return np.clip(scale.to_unit(filled[None]), -1.0, 1.0), valid


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold between two groups of finite values that leaves least variance within them.

    Values above it are the brighter group; a constant set gives its value.
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return low
    count, edges = np.histogram(values, bins, (low, high))
    centre = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(count).astype(np.float64)
    mass = np.cumsum(count * centre)
    above, rest = below[-1] - below, mass[-1] - mass
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - rest / above) ** 2
    between[(below == 0) | (above == 0)] = -1.0
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1 + (best[0] + best[-1]) // 2])  # the middle of the gap where the groups lie apart


def foreground(volume: np.ndarray, how: str) -> np.ndarray:
    """Where a volume shows the patient: bool of its shape.

    how: "all" finite values; "nonzero", those that differ from 0; "otsu", those above Otsu's threshold. A rule that
    finds nothing gives all finite values.
    """
    finite = np.isfinite(volume)
    if how == "all" or not finite.any():
        return finite
    with np.errstate(invalid="ignore"):
        found = finite & ((volume != 0) if how == "nonzero" else (volume > otsu(volume[finite])))
    return found if found.any() else finite


def volume_scale(volume: np.ndarray, options: Intensity) -> Scale:
    """Percentiles of one volume's foreground; a constant volume gets a range of 1."""
    values = volume[foreground(volume, options.foreground)]
    if not values.size:
        return window(0.0, 1.0)
    lo, hi = np.quantile(values, [options.low, options.high])
    return _range(float(lo), float(hi))


def training_scale(volumes: Callable[[], Iterable[np.ndarray]], options: Intensity) -> Scale:
    """Percentiles of the foreground of all volumes together, exact, without holding them in memory.

    volumes: gives the training volumes afresh at each call; they are read twice.
    """

    def values() -> Iterable[np.ndarray]:
        for volume in volumes():
            yield volume[foreground(volume, options.foreground)]

    return _range(*pooled_quantiles(values, (options.low, options.high)))


def _range(lo: float, hi: float) -> Scale:
    lo, hi = np.float32(lo), np.float32(hi)
    return window(float(lo), float(hi) if hi > lo else float(lo) + max(1.0, abs(float(lo)) * 1e-3))


def pooled_quantiles(parts: Callable[[], Iterable[np.ndarray]], shares: tuple[float, ...]) -> list[float]:
    """The values of rank floor(share (n - 1)) among finite float32 values that come in parts, read twice.

    Exact whatever the range: ranks are counted over the bits of a float32, which sort like its values once the sign
    is folded in; first the upper 16 bits, then the lower 16 of the bins that hold a rank. Raises: DataError (no value).
    """
    upper = np.zeros(HISTOGRAM, np.int64)
    for part in parts():
        upper += np.bincount(_ordered(part) >> 16, minlength=HISTOGRAM)
    total = int(upper.sum())
    if not total:
        raise DataError("dataset.scale: the training volumes hold no finite value to estimate percentiles from")
    ranks = [int(share * (total - 1)) for share in shares]
    ends = np.cumsum(upper)
    bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {b: np.zeros(HISTOGRAM, np.int64) for b in bins}
    for part in parts():
        bits = _ordered(part)
        for b, count in lower.items():
            count += np.bincount(bits[bits >> 16 == b] & 0xFFFF, minlength=HISTOGRAM)
    found = []
    for rank, b in zip(ranks, bins):
        below = int(ends[b] - upper[b])
        low = int(np.searchsorted(np.cumsum(lower[b]), rank - below, side="right"))
        bits = np.uint32(b << 16 | low)
        bits = bits ^ np.uint32(0x80000000) if bits & np.uint32(0x80000000) else ~bits
        found.append(float(np.array(bits, np.uint32).view(np.float32)))
    return found


def _ordered(values: np.ndarray) -> np.ndarray:
    """uint32 that sort as the float32 values do."""
    bits = np.ascontiguousarray(values, np.float32).ravel().view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
