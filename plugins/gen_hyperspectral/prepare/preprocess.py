"""From a raw cube to the bands and size of a volume, in blocks: memory does not grow with the file.

Legend: K source bands read, D bands made, Y x X source pixels, H x W output pixels. A pixel without usable
values is NaN in every band of the result; what NaN, no-data and saturated values do is a policy of the recipe.
"""

from __future__ import annotations

import numpy as np

from gen_core.errors import DataError
from gen_core.mapped import release
from gen_core.writer import RawVolume
from gen_hyperspectral.prepare.area_resize import axis_weights, resize_columns, resize_rows
from gen_hyperspectral.prepare.band_blocks import BandBlocks, Counts, Policy
from gen_hyperspectral.prepare.bands import Selection

BLOCK_BYTES = 8 << 20  # float32 values of one block
COVERED = 0.5  # an output pixel is valid where at least this share of its area is


def preprocess(
    raw: RawVolume,
    selection: Selection,
    out: np.ndarray,
    policy: Policy,
    name: str,
    good: np.ndarray | None = None,
    wavelength: np.ndarray | None = None,
) -> Counts:
    """Fill `out` (D, H, W) float32 from the raw cube (axes y, x, band); invalid pixels become NaN.

    name: the file, for messages. good: every good band, what "fill" may interpolate from. A reflectance scale
    factor of the file (meta "scale_factor") divides the values. Raises: DataError when the policy refuses.
    """
    y, x, _ = raw.array.shape
    depth, height, width = out.shape
    rows, columns = axis_weights(y, height), axis_weights(x, width)
    counts = Counts()
    reader = BandBlocks(raw, selection, policy, good, wavelength, counts)
    # output rows a block: bounded by the float32 copy of the source rows they need
    # nothing of the container decides: products of other blocks would differ in their last bit
    per_source_row = len(selection.index) * x * 4
    per_row = per_source_row * max(1.0, y / height)
    step = max(1, min(height, int(BLOCK_BYTES / per_row)))
    keep_size = (y, x) == (height, width)
    for first in range(0, height, step):
        last = min(first + step, height)
        begin, end, _ = rows.matrix(first, last)
        values, valid = reader.read(begin, end)
        if policy.nan == "refuse" and counts.missing:
            _refuse(name, "NaN, infinite or no-data", begin, end, 'dataset.nan = "fill" or "mask"')
        if policy.saturated == "refuse" and counts.saturated:
            _refuse(name, "saturated", begin, end, 'dataset.saturated = "keep" or "mask"')
        if keep_size:
            if valid is not None:
                values[:, ~valid] = np.nan
            out[:, first:last] = values
        elif valid is None:
            resize_columns(resize_rows(values, rows, first, last, begin), columns, out[:, first:last])
        else:
            both = np.concatenate([values, valid[None].astype(np.float32)])
            both[:-1, ~valid] = 0.0
            both = resize_columns(resize_rows(both, rows, first, last, begin), columns)
            cover = both[-1]
            with np.errstate(invalid="ignore", divide="ignore"):
                part = both[:-1] / cover
            part[:, cover < COVERED] = np.nan
            out[:, first:last] = part
        release(reader.array)
        release(out)
    factor = raw.meta.get("scale_factor")
    if factor:
        for d in range(depth):
            out[d] /= np.float32(factor)
    return counts


def _refuse(name: str, what: str, begin: int, end: int, key: str) -> None:
    raise DataError(f"{name}: {what} values in rows {begin}..{end - 1} of the bands used; set {key}")
