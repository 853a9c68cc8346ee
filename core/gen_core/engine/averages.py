"""Averages of logged values that stay on the device until they are shown."""

from __future__ import annotations

from torch import Tensor, stack


class Averages:
    """Weighted means by name since the last `take`; adding costs no look from the host."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, float]] = {}

    def add(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        """value: a scalar tensor of any float or integer type."""
        value = value.detach().float().reshape(())
        total, count = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (total + value * weight, count + weight)

    def take(self) -> dict[str, float]:
        """The means so far, fetched in one transfer; starts anew."""
        sums, self._sums = self._sums, {}
        if not sums:
            return {}
        device = next(iter(sums.values()))[0].device
        totals = stack([total.to(device) for total, _ in sums.values()]).tolist()
        return {name: total / count for total, (name, (_, count)) in zip(totals, sums.items())}
