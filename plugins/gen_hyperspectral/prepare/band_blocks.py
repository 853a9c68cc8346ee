"""Blocks of rows of a raw cube as the bands of a volume: chosen, filled or masked as a policy says, and counted.

Legend: K source bands read, D bands made, G good bands, P pixels, X columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from attrs import define, frozen

from gen_core.mapped import release
from gen_core.writer import RawVolume
from gen_hyperspectral.prepare.bands import Selection


@frozen
class Policy:
    """What to do with values that are no measurement.

    nan: of NaN, infinite and no-data values: "refuse", "fill" (interpolate along wavelength over the good bands;
    a pixel without any good value becomes invalid) or "mask" (a pixel with one such value becomes invalid).
    nodata: the value that says "nothing here"; saturation: values from here on are saturated, None = unknown.
    saturated: "keep", "refuse" or "mask".
    """

    nan: Literal["refuse", "fill", "mask"] = "refuse"
    nodata: float | None = None
    saturation: float | None = None
    saturated: Literal["keep", "refuse", "mask"] = "keep"


@define
class Counts:
    """What was met in the values read: not finite or no-data, and saturated (where a level is known)."""

    missing: int = 0
    saturated: int = 0


class BandBlocks:
    """Blocks of rows as (D, rows, X) float32 with their valid pixels."""

    def __init__(
        self,
        raw: RawVolume,
        selection: Selection,
        policy: Policy,
        good: np.ndarray | None,
        wavelength: np.ndarray | None,
        counts: Counts,
    ):
        self.selection, self.policy, self.counts = selection, policy, counts
        nodata = policy.nodata if policy.nodata is not None else raw.nodata
        self.nodata = None if nodata is None else np.float32(nodata)
        self.may_miss = raw.array.dtype.kind == "f" or self.nodata is not None
        good = selection.index if good is None else good
        order = good if wavelength is None else good[np.argsort(wavelength[good])]
        self.at = order.astype(np.float64) if wavelength is None else wavelength[order]
        self.counted = 0  # rows whose values are in the counts: blocks share the row at their border
        self.array, self.index, self.order = raw.array, selection.index, order
        if hasattr(raw.array, "select"):  # in pieces: only these bands are unpacked
            filling = self.may_miss and policy.nan == "fill"
            bands = np.union1d(selection.index, order) if filling else np.unique(selection.index)
            self.array = raw.array.select(bands)
            self.index, self.order = np.searchsorted(bands, selection.index), np.searchsorted(bands, order)

    def read(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray | None]:
        """(D, rows, X) of rows begin..end, and the valid pixels (rows, X) or None when all are."""
        block = self.array[begin:end]
        values = self._gather(block, self.index)
        new = max(self.counted - begin, 0)
        self.counted = end
        invalid = None
        if self.policy.saturation is not None:
            saturated = values >= np.float32(self.policy.saturation)
            self.counts.saturated += int(saturated[:, new:].sum())
            if self.policy.saturated == "mask":
                invalid = saturated.any(axis=0)
        if self.may_miss:
            missing = self._missing(values)
            if missing is not None:
                self.counts.missing += int(missing[:, new:].sum())
                if self.policy.nan == "fill":
                    values, lost = self._fill(block, values, missing)
                else:
                    lost = missing.any(axis=0)
                    values[missing] = 0.0
                invalid = lost if invalid is None else invalid | lost
        if self.selection.weights is not None:
            k = len(values)
            values = (self.selection.weights @ values.reshape(k, -1)).reshape(-1, *values.shape[1:])
        return values, None if invalid is None or not invalid.any() else ~invalid

    def _gather(self, block: np.ndarray, index: np.ndarray) -> np.ndarray:
        rows, x, _ = block.shape
        values = np.empty((len(index), rows, x), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes infinite: missing
            self._copy(block, index, values)
        return values

    def _copy(self, block: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
        rows, _, bands = block.shape
        if block.strides[2] == block.itemsize and len(index) > bands // 8:  # bands lie side by side
            # one pass over the pixels, row by row: a band at a time would fetch every cache line for every band
            for r in range(rows):
                values[:, r] = block[r].astype(np.float32).T[index]
        else:
            for k, band in enumerate(index):
                values[k] = block[:, :, band]
                if block.strides[2] == max(block.strides):
                    # not after the block: a system with huge pages maps 2 MiB of the file for each band touched
                    release(block)

    def _missing(self, values: np.ndarray) -> np.ndarray | None:
        missing = None
        if not np.isfinite(values.sum(dtype=np.float64)):
            missing = ~np.isfinite(values)
        if self.nodata is not None:
            empty = values == self.nodata
            missing = empty if missing is None else missing | empty
        return missing if missing is not None and missing.any() else None

    def _fill(self, block: np.ndarray, values: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Missing values interpolated along wavelength from every good band; and the pixels that have none."""
        touched = missing.any(axis=0)
        spectra = self._gather(block, self.order)[:, touched]  # (G, P)
        bad = self._missing(spectra)
        if bad is not None:
            spectra = interpolate(spectra, bad, self.at)
        place = {int(band): g for g, band in enumerate(self.order)}
        values[:, touched] = spectra[[place[int(band)] for band in self.index]]
        lost = ~np.isfinite(values).all(axis=0)
        values[:, lost] = 0.0
        return values, lost


def interpolate(spectra: np.ndarray, missing: np.ndarray, at: np.ndarray) -> np.ndarray:
    """spectra (G, P) at rising wavelengths `at` (G,): missing values on the line between their neighbours.

    Beyond the last good value it is repeated; a spectrum without any good value becomes NaN.
    """
    g = len(at)
    index = np.arange(g)[:, None]
    before = np.maximum.accumulate(np.where(missing, -1, index), axis=0)
    after = np.minimum.accumulate(np.where(missing, g, index)[::-1], axis=0)[::-1]
    none = before[-1] < 0
    before, after = np.where(before < 0, after, before), np.where(after >= g, before, after)
    before, after = np.where(none, 0, before), np.where(none, 0, after)
    low, high = np.take_along_axis(spectra, before, 0), np.take_along_axis(spectra, after, 0)
    gap = at[after] - at[before]
    share = np.where(gap > 0, (at[:, None] - at[before]) / np.where(gap > 0, gap, 1.0), 0.0).astype(np.float32)
    filled = np.where(missing, low + share * (high - low), spectra)
    filled[:, none] = np.nan
    return filled
