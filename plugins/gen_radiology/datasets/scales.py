"""The scales of a data set's volumes: one window, or percentiles, estimated once and cached."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from gen_core.volume import Scale
from gen_core.volume_cache import key_of
from gen_radiology.dataset_options import Intensity
from gen_radiology.datasets import hu
from gen_radiology.datasets.split import within
from gen_radiology.sources.source import Source


class VolumeScales:
    """mode: "window" or "percentiles"; "auto" is a window for CT in HU."""

    def __init__(self, dataset: Any, options: Intensity, units: str):
        self.dataset, self.options = dataset, options
        self.mode = options.mode if options.mode != "auto" else "window" if units == "HU" else "percentiles"
        self._owned: dict[str, Scale] = {}

    @cached_property
    def common(self) -> Scale:
        """That of the data set: the window, percentiles of all training volumes, or the median of each one's own."""
        o = self.options
        if self.mode == "window":
            return hu.window(o.lo, o.hi)
        items = {item.source.id: item for item in self.dataset.split("train").items}
        if o.of == "volume":
            own = [self.own(item.source) for item in items.values()]
            lo, hi = (float(np.median([getattr(s, end).item() for s in own])) for end in ("lo", "hi"))
            return hu.window(lo, max(hi, float(np.nextafter(np.float32(lo), np.float32(np.inf)))))

        def volumes() -> Any:
            for item in items.values():
                array, _ = self.dataset.cached.volume(item.source)
                yield array if item.box is None else array[within(item.box)]

        parts = [
            [self.dataset.cached.key(i.source), None if i.box is None else [i.box.low, i.box.high]]
            for i in items.values()
        ]
        key = key_of(scale=[o.low, o.high, o.foreground], parts=parts)
        return self._kept(key, lambda: hu.training_scale(volumes, o))

    def own(self, source: Source) -> Scale:
        """The scale of one volume's samples: its own percentiles, or that of the data set."""
        o = self.options
        if self.mode == "window" or o.of == "training":
            return self.common
        if source.id not in self._owned:
            key = key_of(scale=[o.low, o.high, o.foreground], volume=self.dataset.cached.key(source))
            made = self._kept(key, lambda: hu.volume_scale(np.asarray(self.dataset.cached.volume(source)[0]), o))
            self._owned[source.id] = made
        return self._owned[source.id]

    def _kept(self, key: str, make: Any) -> Scale:
        def fill(out: np.ndarray) -> dict[str, Any]:
            made = make()
            out[:] = (made.lo.item(), made.hi.item())
            return {}

        lo, hi = np.array(self.dataset.cache.fetch(key, lambda: (2,), "<f4", fill, verify=True)[0])
        return hu.window(float(lo), float(hi))
