"""The smoke form of a recipe: every step at full volume size, with tiny networks and two updates.

A component says what small means for it: option fields with `metadata={"smoke": value}` take that value.
"""

from __future__ import annotations

from typing import Any

import attrs

from gen_core.options import METRICS, FitOptions, RejectOptions

UPDATES = 2
VOLUMES = 2


def smoke_options(options: Any) -> Any:
    """Component options with every field's smoke value; nested attrs classes too; a fit of two updates."""
    changes: dict[str, Any] = {}
    for field in attrs.fields(type(options)):
        value = getattr(options, field.name)
        if isinstance(value, FitOptions):
            changes[field.name] = smoke_fit(value)
        elif "smoke" in field.metadata:
            changes[field.name] = field.metadata["smoke"]
        elif attrs.has(type(value)):
            changes[field.name] = smoke_options(value)
    return attrs.evolve(options, **changes)


def smoke_fit(fit: FitOptions) -> FitOptions:
    """Two updates of at most two volumes in float32; everything else as it is, but no metric selects.

    A recipe whose memory bears one volume at a time still gets one at a time.

    float32, because bf16 gradients of the CPU's narrow layers at full size take minutes each, or end the process.
    """
    batch = min(fit.batch, VOLUMES)
    return attrs.evolve(
        fit,
        select="" if fit.select.startswith(METRICS) else fit.select,  # no distance is told by two volumes
        steps=UPDATES,
        batch=batch,
        accumulate=batch if fit.batch == fit.accumulate else 1,
        precision="float32",
        warmup=0,
        ema_start=0,
        ema_every=1,
        checkpoint_every=1,
        validate_volumes=VOLUMES,
        log_every=1,
    )


def _conditions(recipe: Any) -> dict[str, Any]:
    """Conditions of the training volumes where the recipe takes those of another run, which may not be there yet."""
    source = recipe.sample.conditions
    return {} if source in ("train", "val", "none") or source.endswith(".csv") else {"conditions": "train"}


def smoke_recipe(recipe: Any) -> Any:
    """The recipe with smoke settings in every table.

    `init` is dropped, because small networks cannot take it; nothing is rejected, because nothing would be left.
    """
    tables = {
        name: attrs.evolve(table, options=smoke_options(table.options), init=None, from_=None)
        for name, table in recipe.tables.items()
    }
    note = "smoke run: tiny networks, two updates, two sampling steps; no figure here means anything"
    return attrs.evolve(
        recipe,
        run=attrs.evolve(recipe.run, name=f"{recipe.run.name}-smoke", demonstration=note),
        encode=attrs.evolve(recipe.encode, views=1, batch=1, precision="float32"),
        sample=attrs.evolve(recipe.sample, n=VOLUMES, batch=1, steps=2, precision="float32", **_conditions(recipe)),
        evaluate=attrs.evolve(recipe.evaluate, volumes=VOLUMES, batch=1, reject=RejectOptions()),
        tables=tables,
    )
