"""Averages of logged values that stay on the device until they are shown."""

from __future__ import annotations

import torch
from torch import Tensor


class Averages:
    """Weighted means by name since the last `take`; adding costs three small kernels and no look from the host."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device
        self._sums: dict[tuple[str, ...], tuple[Tensor, float]] = {}

    def add(self, values: dict[str, Tensor], weight: float = 1.0) -> None:
        """values: scalars of any float or integer type, copied now: they may be buffers that change later."""
        if not values:
            return
        names = tuple(values)
        now = torch.stack([v.detach().float().reshape(()).to(self._device) for v in values.values()]) * weight
        total, count = self._sums.get(names, (0.0, 0.0))
        self._sums[names] = (total + now, count + weight)

    def take(self) -> dict[str, float]:
        """The means so far; starts anew. A name that came in several companies is averaged over all of them."""
        sums, self._sums = self._sums, {}
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, (total, count) in sums.items():
            for name, value in zip(names, total.tolist()):
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
        return {name: total / counts[name] for name, total in totals.items()}
