"""The scale of a data set: that of the recipe, or one estimated over the training volumes and cached."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from gen_core.volume import Scale
from gen_core.volume_cache import key_of
from gen_hyperspectral.dataset.split import Item
from gen_hyperspectral.prepare.scaling import estimate_scale, fixed_scale


def scale_of(dataset: Any) -> Scale:
    """Physical values to [-1, 1], band by band. Reads the training volumes where the recipe does not say it."""
    o, depth = dataset.options.scale, dataset.size[0]
    if o.mode == "fixed":
        return fixed_scale(o.lo, o.hi, depth)
    low, high = (o.low, o.high) if o.mode == "quantile" else (0.0, 1.0)
    seen: dict[str, Item] = {}
    for item in dataset.split("train").items:
        seen.setdefault(item.source.id, item)

    def volumes() -> Any:
        for item in seen.values():
            array, _ = dataset.cached.volume(item.source)
            r = item.region
            yield array if r is None else array[:, r.y0 : r.y1, r.x0 : r.x1]

    parts = [(dataset.cached.key(i.source), attrs.astuple(i.region) if i.region else None) for i in seen.values()]
    key = key_of(scale=[low, high, o.per_band], parts=parts)

    def fill(out: np.ndarray) -> dict[str, Any]:
        made = estimate_scale(volumes, low, high, o.per_band)
        out[0], out[1] = made.lo.ravel(), made.hi.ravel()
        return {}

    lo, hi = np.array(dataset.cache.fetch(key, lambda: (2, depth), "<f4", fill, verify=True)[0])
    return Scale(lo.reshape(1, -1, 1, 1), hi.reshape(1, -1, 1, 1))
