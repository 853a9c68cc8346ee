"""The graph of steps that a recipe asks for, each with what it depends on.

prepare -> fit.codec -> encode -> fit.prior -> sample;  prepare -> fit.features*, fit.segmenter*;
all -> evaluate -> report. A trainable table is one whose options carry `fit`.
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen

from gen_core.errors import UsageError
from gen_core.run.fingerprint import depends, fingerprint


@frozen
class StepSpec:
    """One step: its name, the table it fits (for fit steps), its upstream steps, the settings it depends on."""

    name: str
    upstream: tuple[str, ...]
    settings: dict[str, Any]
    table: str = ""

    def print(self, upstream: dict[str, str]) -> str:
        """The fingerprint, given those of the upstream steps."""
        return fingerprint(
            {
                "step": self.name,
                "settings": self.settings,
                "upstream": {k: upstream[k] for k in self.upstream},
            }
        )


def is_trainable(table: Any) -> bool:
    """Whether a table of the recipe is something the engine fits."""
    return hasattr(table.options, "fit")


def table_settings(table: Any) -> dict[str, Any]:
    """What a table contributes to fingerprints: component, its version, its settings."""
    settings = {
        "use": table.use,
        "version": table.component.version,
        "options": depends(attrs.asdict(table.options)),
    }
    for key, value in (("from", table.from_), ("init", table.init)):
        if value:
            settings[key] = value
    return settings


def build_graph(recipe: Any, source: dict[str, Any], smoke: bool = False) -> list[StepSpec]:
    """The steps of a recipe in running order. `source`: what the data set says of its source files."""
    seed = recipe.run.seed
    steps: list[StepSpec] = []
    has = set(recipe.tables)

    def add(name: str, upstream: tuple[str, ...], settings: dict[str, Any], table: str = "") -> None:
        steps.append(StepSpec(name, upstream, settings, table))

    if "dataset" not in has:
        raise UsageError(f"{recipe.path}: a run needs a [dataset] table")
    add(
        "prepare",
        (),
        {
            "dataset": table_settings(recipe.table("dataset")),
            "volume": attrs.asdict(recipe.volume),
            "split": attrs.asdict(recipe.split),
            "seed": seed,
            "source": source,
            "smoke": smoke,
        },
    )
    codec_steps: tuple[str, ...] = ()
    if "codec" in has:
        table = recipe.table("codec")
        if is_trainable(table):
            add("fit.codec", ("prepare",), {"codec": table_settings(table), "seed": seed}, "codec")
            codec_steps = ("fit.codec",)
        add(
            "encode",
            ("prepare", *codec_steps),
            {"encode": attrs.asdict(recipe.encode), "codec": table_settings(table), "seed": seed},
        )
    if "prior" in has:
        if "codec" not in has:
            raise UsageError(f'{recipe.path}: a [prior] needs a [codec] (use = "identity" for none)')
        table = recipe.table("prior")
        if is_trainable(table):
            add("fit.prior", ("encode",), {"prior": table_settings(table), "seed": seed}, "prior")
        if "sampler" in has:
            add(
                "sample",
                ("encode", "fit.prior") if is_trainable(table) else ("encode",),
                {
                    "sampler": table_settings(recipe.table("sampler")),
                    "sample": attrs.asdict(recipe.sample),
                    "prior": table_settings(table),
                    "seed": seed,
                },
            )
    supporting: list[str] = []
    for kind in ("features", "segmenter"):
        for table in recipe.tables_of(kind):
            if is_trainable(table):
                name = f"fit.{table.name}"
                add(name, ("prepare",), {kind: table_settings(table), "seed": seed}, table.name)
                supporting.append(name)
    names = {s.name for s in steps}
    metrics = recipe.tables_of("metric")
    if metrics:
        tables = metrics + recipe.tables_of("features") + recipe.tables_of("segmenter")
        add(
            "evaluate",
            tuple(n for n in ("prepare", "encode", "sample", *supporting) if n in names),
            {
                "evaluate": attrs.asdict(recipe.evaluate),
                "tables": {t.name: table_settings(t) for t in tables},
                "seed": seed,
            },
        )
        names.add("evaluate")
    for table in recipe.tables_of("report"):
        add(
            "report",
            tuple(n for n in ("prepare", "encode", "sample", "evaluate") if n in names),
            {"report": table_settings(table), "demonstration": recipe.run.demonstration},
        )
    return steps


def downstream(steps: list[StepSpec], name: str) -> set[str]:
    """`name` and every step that depends on it."""
    found = {name}
    for step in steps:
        if found & set(step.upstream):
            found.add(step.name)
    return found
