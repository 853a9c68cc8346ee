"""A prior that takes the conditions a recipe declares: which it knows, which it is told, which it is not.

Shape legend: z (B, c, D, H, W) latents in prior space; conditions on the grid (D, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.condition import GRIDS, Conditions, unknown
from gen_core.errors import RecipeError
from gen_core.prior import Prior, PriorContext
from gen_core.share import rows
from gen_core.trainable import Step


class ConditionalPrior(Prior):
    """`shape`, `specs` (the declared conditions in the order of their names), and how to complete and drop them."""

    def __init__(self, context: PriorContext):
        super().__init__()
        self.shape = tuple(context.shape)  # type: ignore[assignment]
        self.specs = {name: context.conditions[name] for name in sorted(context.conditions)}

    def complete(self, cond: Conditions | None, z: Tensor) -> Conditions | None:
        """`cond` with every declared name, on the device of z; what it lacks is not present.

        Raises: RecipeError for a name that was not declared, and a mask or volume off the latents' grid.
        """
        given = cond or Conditions()
        strangers = sorted(set(given.values) - set(self.specs))
        if strangers:
            built = f"for {', '.join(self.specs)}" if self.specs else "without conditions"
            raise RecipeError(f"[prior] was built {built}, got: {', '.join(strangers)}")
        if not self.specs:
            return None
        n, grid = z.shape[0], self.shape[1:]
        for name, value in given.values.items():
            spec = self.specs[name]
            want = (n, spec.channels, *grid) if spec.kind in GRIDS else (n,)
            if tuple(value.shape) != want:
                raise RecipeError(f"[condition.{name}]: values are {tuple(value.shape)}, expected {want}")
        with z.device:
            rest = unknown({name: spec for name, spec in self.specs.items() if name not in given.values}, n, grid)
        return Conditions(rest.values | given.values, rest.present | given.present)

    def told(self, batch: Batch) -> Conditions | None:
        """The declared conditions of a batch; whatever else it carries is not the prior's business."""
        pick = lambda d: {name: d[name] for name in self.specs if name in d}
        return self.complete(Conditions(pick(batch.condition), pick(batch.present)), batch.x)

    def partly_told(self, batch: Batch, drop: float, step: Step) -> Conditions | None:
        """`told`, but a share `drop` of the samples is told nothing at all; None for a prior without conditions.

        So one network learns the unconditional distribution too, for classifier-free guidance. The draw is made
        whatever the share, so that a fit's other draws do not depend on it.
        Source: Ho & Salimans 2022, algorithm 1.
        """
        cond = self.told(batch)
        if cond is None:
            return None
        at = step.generator.device
        chance = rows(len(batch), lambda n: torch.rand(n, generator=step.generator, device=at))
        return cond.dropped((chance < drop).to(batch.x.device))
