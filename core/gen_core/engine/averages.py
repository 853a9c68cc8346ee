"""Averages of logged values that stay on the device until they are shown."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gen_core.engine.events import plain
from gen_core.engine.ranks import Ranks


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

    def state(self, ranks: Ranks | None = None) -> list[Any]:
        """What has been added since the last `take`, for a checkpoint: of each process, which all must call this,
        [names, sums, weight] of each company.
        """
        own = [[list(names), plain(total.tolist()), count] for names, (total, count) in self._sums.items()]
        return [own] if ranks is None else ranks.gathered(own)

    def load(self, state: list[Any], ranks: Ranks | None = None) -> None:
        """Go on from `state()`, to the same bits where as many processes go on; else the first one has all of it."""
        ranks = ranks or Ranks()
        if len(state) != ranks.world:
            whole = _added(state)
            nothing = [[names, [0.0] * len(sums), 0.0] for names, sums, _ in whole]
            state = [whole] + [nothing] * (ranks.world - 1)
        self._sums = {}
        for names, sums, count in state[ranks.rank]:
            self._sums[tuple(names)] = (torch.tensor(_numbers(sums), device=self._device), count)

    def take(self, ranks: Ranks | None = None) -> dict[str, float]:
        """The means so far; starts anew. A name that came in several companies is averaged over all of them.

        ranks: means over all processes, each of which has added the same names in the same order.
        """
        sums, self._sums = self._sums, {}
        if ranks is not None and ranks.world > 1 and sums:
            totals = [total.double() for total, _ in sums.values()]
            counts = torch.tensor([count for _, count in sums.values()], dtype=torch.float64, device=totals[0].device)
            ranks.add_all([*totals, counts])
            sums = dict(zip(sums, zip(totals, counts.tolist())))
        added: dict[str, float] = {}
        weights: dict[str, float] = {}
        for names, (total, count) in sums.items():
            for name, value in zip(names, total.tolist()):
                added[name] = added.get(name, 0.0) + value
                weights[name] = weights.get(name, 0.0) + count
        return {name: total / weights[name] for name, total in added.items()}


def _added(states: list[Any]) -> list[Any]:
    """The states of several processes as that of one."""
    made: list[Any] = []
    for alike in zip(*states):
        sums = [math.fsum(each) for each in zip(*(_numbers(sums) for _, sums, _ in alike))]
        made.append([alike[0][0], sums, math.fsum(count for *_, count in alike)])
    return made


def _numbers(values: list[float | None]) -> list[float]:
    """Of JSON, which knows no NaN."""
    return [math.nan if value is None else value for value in values]
