"""What a GAN is told of a sample, as one vector: classes and scalars, each with a learned vector for "unknown"."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.condition import VECTORS, Conditions, ConditionSpec, unknown
from gen_core.errors import RecipeError
from gen_core.share import rows
from gen_gan.equalized_layers import EqualLinear

OCTAVES = 4  # sines and cosines of a scalar: of pi/2, pi, 2 pi, 4 pi times its value in -1..1


class Told(nn.Module):
    """The sum over conditions of a vector (B, dim) each.

    Raises: RecipeError for masks and volumes, which these networks have no place for.
    """

    def __init__(self, specs: Mapping[str, ConditionSpec], dim: int):
        super().__init__()
        for name, spec in specs.items():
            if spec.kind not in VECTORS:
                raise RecipeError(
                    f'[condition.{name}] kind = "{spec.kind}": a GAN of this plugin takes classes and scalars only'
                )
        self.specs = {name: specs[name] for name in sorted(specs)}
        self.dim = dim if specs else 0
        # a prefix: a module's names may be neither "type" nor hold a dot
        self.keys = {name: f"of_{name.replace('.', '_')}" for name in self.specs}
        self.maps, self.nulls = nn.ModuleDict(), nn.ParameterDict()
        for name, spec in self.specs.items():
            n = len(spec.classes) if spec.kind == "class" else 2 * OCTAVES + 1
            self.maps[self.keys[name]] = EqualLinear(n, dim)
            self.nulls[self.keys[name]] = nn.Parameter(torch.randn(dim))

    def forward(self, cond: Conditions | None) -> Tensor | None:
        """cond: complete -> (B, dim) float32; None without conditions."""
        if not self.specs:
            return None
        assert cond is not None
        total = None
        for name, spec in self.specs.items():
            value, present = cond.values[name], cond.present[name]
            if spec.kind == "class":
                given = nn.functional.one_hot(torch.where(present, value.long(), 0), len(spec.classes)).float()
                given = given * math.sqrt(len(spec.classes))  # unit power, as the layer expects
            else:
                given = _octaves(torch.where(present, value.float(), 0.0))  # unknown may be NaN
            y = torch.where(present[:, None], self.maps[self.keys[name]](given), self.nulls[self.keys[name]])
            total = y if total is None else total + y
        return total


def _octaves(v: Tensor) -> Tensor:
    angle = v[:, None] * (math.pi / 2 * 2.0 ** torch.arange(OCTAVES, device=v.device))
    return torch.cat((v[:, None], angle.sin(), angle.cos()), -1)


def complete(specs: Mapping[str, ConditionSpec], cond: Conditions | None, n: int, device: torch.device) -> Conditions:
    """`cond` with every declared name for n samples; what it lacks is not present.

    Raises: RecipeError for a name that was not declared, and values of another number of samples.
    """
    given = cond or Conditions()
    strangers = sorted(set(given.values) - set(specs))
    if strangers:
        built = f"for {', '.join(specs)}" if specs else "without conditions"
        raise RecipeError(f"[prior] was built {built}, got: {', '.join(strangers)}")
    for name, value in given.values.items():
        if tuple(value.shape) != (n,):
            raise RecipeError(f"[condition.{name}]: values are {tuple(value.shape)}, expected {(n,)}")
    rest = unknown({name: spec for name, spec in specs.items() if name not in given.values}, n, (1, 1, 1)).to(device)
    return Conditions(rest.values | given.values, rest.present | given.present)


def of_batch(
    specs: Mapping[str, ConditionSpec], batch: Batch, drop: float, generator: torch.Generator | None
) -> Conditions:
    """The declared conditions of a batch, all absent for a share `drop` of it; no generator drops none."""
    pick = lambda d: {name: d[name] for name in specs if name in d}
    cond = complete(specs, Conditions(pick(batch.condition), pick(batch.present)), len(batch), batch.x.device)
    if specs and generator is not None:
        chance = rows(len(batch), lambda n: torch.rand(n, generator=generator, device=generator.device))
        cond = cond.dropped((chance < drop).to(batch.x.device))
    return cond
