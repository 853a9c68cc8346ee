"""What a prior is told about each volume: classes, scalars, masks and volumes, and whether each is known.

Shape legend: B batch; c, d, h, w of the condition on the latents' grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from attrs import Factory, define, frozen
from torch import Tensor

VECTORS, GRIDS = ("class", "scalar"), ("mask", "volume")
KINDS = (*VECTORS, *GRIDS)


@frozen
class ConditionSpec:
    """One declared condition, as priors see it.

    kind: "class": `classes` are its names, values are their indices. "scalar": low..high are mapped to -1..1.
    "mask" (a share of the voxel, 0..1) and "volume" (in [-1, 1]): `channels` on the latents' grid.
    """

    kind: str
    classes: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    channels: int = 1


@define(eq=False)
class Conditions:
    """Condition values of a batch, and which samples have them. Absent values are zeros.

    values: name -> (B,) int64 of a class, (B,) float32 of a scalar, (B, c, d, h, w) float32 of a mask or volume.
    present: name -> (B,) bool, for every name of `values`; a prior trained with absent values can be guided.
    """

    values: dict[str, Tensor] = Factory(dict)
    present: dict[str, Tensor] = Factory(dict)

    def __len__(self) -> int:
        return next((len(v) for v in self.values.values()), 0)

    def __bool__(self) -> bool:
        return bool(self.values)

    def _each(self, change: object) -> Conditions:
        apply = lambda d: {name: change(v) for name, v in d.items()}  # type: ignore[operator]
        return Conditions(apply(self.values), apply(self.present))

    def to(self, device: torch.device | str) -> Conditions:
        """The same on `device`."""
        return self._each(lambda v: v.to(device, non_blocking=True))

    def take(self, rows: Tensor | Sequence[int] | slice) -> Conditions:
        """Those of some samples, in that order."""
        return self._each(lambda v: v[rows])

    def absent(self) -> Conditions:
        """The same names and shapes, nothing known."""
        return Conditions(
            {name: torch.zeros_like(v) for name, v in self.values.items()},
            {name: torch.zeros_like(v) for name, v in self.present.items()},
        )

    def dropped(self, drop: Tensor) -> Conditions:
        """Everything absent for samples where `drop` (B,) is True: what classifier-free guidance trains on.

        Source: Ho & Salimans 2022, algorithm 1.
        """
        keep = ~drop
        shaped = lambda v: keep.view(-1, *[1] * (v.dim() - 1))
        return Conditions(
            {name: v * shaped(v).to(v.dtype) for name, v in self.values.items()},
            {name: v & keep for name, v in self.present.items()},
        )


def unknown(specs: Mapping[str, ConditionSpec], n: int, grid: tuple[int, int, int]) -> Conditions:
    """Conditions of n samples of which nothing is known; grid: (d, h, w) of the latents."""

    def zeros(spec: ConditionSpec) -> Tensor:
        if spec.kind == "class":
            return torch.zeros(n, dtype=torch.int64)
        return torch.zeros(n) if spec.kind == "scalar" else torch.zeros(n, spec.channels, *grid)

    return Conditions(
        {name: zeros(spec) for name, spec in specs.items()},
        {name: torch.zeros(n, dtype=torch.bool) for name in specs},
    )
