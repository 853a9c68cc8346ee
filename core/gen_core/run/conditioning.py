"""From what data sets know of volumes to what priors are told: declared conditions as tensors on the latents' grid.

Shape legend: x (C, D, H, W); a grid condition (c, d, h, w), where a latent's cell may be folded into c channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from attrs import evolve
from torch import Tensor

from gen_core.batch import known
from gen_core.codec import LatentSpec
from gen_core.condition import VECTORS, Conditions, ConditionSpec
from gen_core.engine.seeds import stable_seed
from gen_core.errors import RecipeError
from gen_core.options import ConditionOptions
from gen_core.registry import did_you_mean
from gen_core.volume import Sample, VolumeSpec

Range = tuple[float, float]
UNKNOWN = "unknown"


class Conditioner:
    """The [condition] tables of a recipe, for volumes of `spec` and latents of `latent`.

    ranges: low..high of the scalars that leave it open (see `scalar_ranges`).
    """

    def __init__(
        self,
        tables: dict[str, ConditionOptions],
        spec: VolumeSpec,
        latent: LatentSpec,
        ranges: dict[str, Range] | None = None,
    ):
        self.tables, self.spec, self.latent = tables, spec, latent
        self.grid = latent.shape(spec.size)[1:]
        self.specs = {name: self._spec(name, table, (ranges or {}).get(name)) for name, table in tables.items()}

    def _spec(self, name: str, table: ConditionOptions, found: Range | None) -> ConditionSpec:
        of = table.of or name
        if table.kind == "class":
            classes = self.spec.classes.get(of) or table.classes
            if not classes:
                offered = ", ".join(self.spec.classes) or "none"
                near = did_you_mean(of, self.spec.classes)
                raise RecipeError(f"[condition.{name}]: the data set has no classes '{of}'; it has {offered}{near}")
            return ConditionSpec("class", classes)
        if table.kind == "scalar":
            low, high = found or (0.0, 1.0)
            low, high = (low if table.low is None else table.low), (high if table.high is None else table.high)
            return ConditionSpec("scalar", low=low, high=high if high > low else low + 1.0)
        if table.kind == "mask":
            if self.spec.masks and of not in self.spec.masks:
                near = did_you_mean(of, self.spec.masks)
                raise RecipeError(
                    f"[condition.{name}]: the data set has no mask '{of}'; it has {', '.join(self.spec.masks)}{near}"
                )
            return ConditionSpec("mask", channels=int(np.prod(self._cell(table))))
        channels = int(np.prod(self._cell(table))) * len(self.spec.channels)
        return ConditionSpec("volume", channels=channels)

    def _cell(self, table: ConditionOptions) -> tuple[int, int, int]:
        """Into how many parts a latent's cell is cut along (D, H, W)."""
        parts = tuple(min(table.detail, s) for s in self.latent.stride)
        if any(s % p for s, p in zip(self.latent.stride, parts)):
            raise RecipeError(f"[condition] detail = {table.detail} does not divide the codec's {self.latent.stride}")
        return parts  # type: ignore[return-value]

    def of(self, samples: Sequence[Sample], seeds: Sequence[int] | None = None) -> Conditions:
        """The conditions of these volumes. seeds: of the noise added to shrunk volumes, one each; None adds none."""
        values: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for name, table in self.tables.items():
            spec, of = self.specs[name], table.of or name
            if spec.kind in VECTORS:
                raw = [s.condition.get(of, -1 if spec.kind == "class" else np.nan) for s in samples]
                there = [known(v) for v in raw]
                values[name] = self._vector(spec, raw, there)
            elif spec.kind == "mask":
                there = [of in s.masks for s in samples]
                grids = [self._mask(s.masks[of], table) if t else self._nothing(spec) for s, t in zip(samples, there)]
                values[name] = torch.stack(grids)
            else:
                there = [True] * len(samples)
                noise = list(seeds) if seeds is not None and table.noise else [None] * len(samples)
                values[name] = torch.stack([self._shrunk(s.x, table, at) for s, at in zip(samples, noise)])
            present[name] = torch.tensor(there)
        return Conditions(values, present)

    def _vector(self, spec: ConditionSpec, raw: Sequence[Any], there: Sequence[bool]) -> Tensor:
        if spec.kind == "class":
            return torch.tensor([int(v) if t else 0 for v, t in zip(raw, there)])
        unit = [2 * (float(v) - spec.low) / (spec.high - spec.low) - 1 if t else 0.0 for v, t in zip(raw, there)]
        return torch.tensor(unit, dtype=torch.float32)

    def _nothing(self, spec: ConditionSpec) -> Tensor:
        return torch.zeros(spec.channels, *self.grid)

    def _mask(self, mask: np.ndarray, table: ConditionOptions) -> Tensor:
        """(D or 1, H, W) bool -> the share of the mask in each part of each cell, (c, d, h, w)."""
        whole = np.broadcast_to(mask, self.spec.size)
        x = torch.tensor(whole, dtype=torch.float32)[None, None]
        room = [g * s - n for g, s, n in zip(self.grid, self.latent.stride, self.spec.size)]
        x = F.pad(x, [v for n in reversed(room) for v in (0, n)])  # as codecs pad: at the far ends
        parts = self._cell(table)
        x = F.avg_pool3d(x, [s // p for s, p in zip(self.latent.stride, parts)])
        return _fold(x[0], parts)

    def _shrunk(self, x: np.ndarray, table: ConditionOptions, seed: int | None) -> Tensor:
        """The volume at [condition] size, exact area averages, then brought to the latents' grid, (c, d, h, w).

        The noise of cascades (Ho et al. 2022, section 3: conditioning augmentation) is added at `size`.
        """
        low = F.adaptive_avg_pool3d(torch.tensor(x, dtype=torch.float32)[None], table.size)
        if seed is not None:
            low = low + table.noise * torch.randn(low.shape, generator=torch.Generator().manual_seed(seed))
        parts = self._cell(table)
        fine = tuple(g * p for g, p in zip(self.grid, parts))
        if tuple(low.shape[2:]) != fine:
            low = F.interpolate(low, fine, mode="trilinear")
        return _fold(low[0], parts)


def _fold(x: Tensor, parts: tuple[int, int, int]) -> Tensor:
    """(c, d p, h q, w r) -> (c p q r, d, h, w): the parts of a cell become channels."""
    c, (p, q, r) = x.shape[0], parts
    d, h, w = (n // k for n, k in zip(x.shape[1:], parts))
    x = x.reshape(c, d, p, h, q, w, r).permute(0, 2, 4, 6, 1, 3, 5)
    return x.reshape(c * p * q * r, d, h, w)


def scalar_ranges(tables: dict[str, ConditionOptions], samples: Iterable[Sample]) -> dict[str, Range]:
    """Name -> (least, most) over these volumes, of the scalars whose table leaves an end open."""
    names = {n: t.of or n for n, t in tables.items() if t.kind == "scalar" and None in (t.low, t.high)}
    found: dict[str, list[float]] = {name: [] for name in names}
    for sample in samples if names else ():
        for name, of in names.items():
            value = sample.condition.get(of, np.nan)
            if known(value):
                found[name].append(float(value))
    empty = [name for name, values in found.items() if not values]
    if empty:
        raise RecipeError(f"[condition.{empty[0]}]: no training volume has a value of '{names[empty[0]]}'")
    return {name: (min(values), max(values)) for name, values in found.items()}


def noise_seeds(seed: int, split: str, view: int, rows: Iterable[int]) -> list[int]:
    """Seeds of the conditioning noise of volumes `rows` in view `view`."""
    return [stable_seed(seed, "condition", split, view, i) for i in rows]


def with_values(sample: Sample, values: dict[str, Any], masks: dict[str, np.ndarray]) -> Sample:
    """The sample with condition values and masks replaced; a value None makes it unknown."""
    condition = {**sample.condition, **{k: v for k, v in values.items() if v is not None}}
    for name, value in values.items():
        if value is None:
            condition.pop(name, None)
    return evolve(sample, condition=condition, masks={**sample.masks, **masks})
