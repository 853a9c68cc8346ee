"""Conditions as a network takes them: vectors (classes, scalars), tokens for cross-attention, channels on the grid.

Shape legend: B batch; c, d, h, w the latents' grid; C width of a vector, as an embedding of time has it.
Whatever is not present is a learned null vector, or zeros with presence 0: its value is never looked at.
Every new path starts at zero, so a conditional network starts as the unconditional one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from attrs import frozen
from torch import Tensor, nn

from gen_core.condition import GRIDS, Conditions, ConditionSpec
from gen_core.engine.precision import float32_island

FREQUENCIES = 8  # of a scalar: pi/2, pi, 2 pi, ...: the slowest tells -1 from 1, the fastest 1/64 of the range apart


@frozen(eq=False)
class Told:
    """What a network is told: vector (B, C), tokens (B, n, C) and grid (B, k, d, h, w) float32, each where there is."""

    vector: Tensor | None = None
    tokens: Tensor | None = None
    grid: Tensor | None = None


def grid_channels(specs: Mapping[str, ConditionSpec]) -> int:
    """Channels of masks and volumes, one more each for its presence."""
    return sum(spec.channels + 1 for spec in specs.values() if spec.kind in GRIDS)


class ClassEmbedding(nn.Embedding):
    """A vector for each class, and one more, the last, for "unknown"."""

    def __init__(self, classes: int, dim: int, zero: bool):
        super().__init__(classes + 1, dim)
        if zero:
            nn.init.zeros_(self.weight)

    def forward(self, value: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """value, present: (B,)."""
        return super().forward(torch.where(present, value.long(), self.num_embeddings - 1))


class ScalarEmbedding(nn.Module):
    """Fourier features of a scalar in -1..1 through a small network, or the null vector.

    Source: Tancik et al. 2020 (Fourier features), with octaves instead of random frequencies.
    """

    def __init__(self, dim: int, zero: bool):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2 * FREQUENCIES + 1, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.zeros(dim) if zero else torch.randn(dim))
        if zero:
            nn.init.zeros_(self.network[2].weight)
            nn.init.zeros_(self.network[2].bias)

    def forward(self, value: Tensor, present: Tensor) -> Tensor:
        """value, present: (B,)."""
        v = torch.where(present, value.float(), 0.0)  # unknown may be NaN, which would reach the gradients
        octaves = math.pi / 2 * 2.0 ** torch.arange(FREQUENCIES, device=v.device)
        angle = v[:, None] * octaves
        y = self.network(torch.cat((v[:, None], angle.sin(), angle.cos()), -1))
        return torch.where(present[:, None], y, self.null)


class ConditionEmbedding(nn.Module):
    """All conditions of a prior, in the order of their names.

    dim: width of each vector. tokens: whether vectors become tokens (which start at random: what attends to them
    starts at zero) instead of one sum, which starts at zero itself.
    """

    def __init__(self, specs: Mapping[str, ConditionSpec], dim: int, tokens: bool = False):
        super().__init__()
        self.specs = {name: specs[name] for name in sorted(specs)}
        self.as_tokens = tokens
        # a prefix: a module's names may be neither "type" nor hold a dot
        self.keys = {name: f"of_{name.replace('.', '_')}" for name in self.specs}
        self.vectors = nn.ModuleDict()
        for name, spec in self.specs.items():
            if spec.kind == "class":
                self.vectors[self.keys[name]] = ClassEmbedding(len(spec.classes), dim, zero=not tokens)
            elif spec.kind == "scalar":
                self.vectors[self.keys[name]] = ScalarEmbedding(dim, zero=not tokens)

    def forward(self, cond: Conditions) -> Told:
        """cond: complete. Computed in float32 whatever the autocast: it is a few vectors, but whole classes differ."""
        vectors, grids = [], []
        with float32_island(next(iter(cond.values.values())).device):
            for name, spec in self.specs.items():
                value, present = cond.values[name], cond.present[name]
                if spec.kind in GRIDS:
                    shaped = present.view(-1, 1, 1, 1, 1)
                    flag = shaped.to(torch.float32).expand(-1, 1, *value.shape[2:])
                    grids += [torch.where(shaped, value.float(), 0.0), flag]
                else:
                    vectors.append(self.vectors[self.keys[name]](value, present))
        grid = torch.cat(grids, 1) if grids else None
        if not vectors:
            return Told(grid=grid)
        stacked = torch.stack(vectors, 1)
        return Told(tokens=stacked, grid=grid) if self.as_tokens else Told(vector=stacked.sum(1), grid=grid)
