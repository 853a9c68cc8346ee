"""The graph of steps that a recipe asks for, each with what it depends on.

prepare -> fit.codec -> encode -> fit.prior -> sample;  prepare -> fit.features*, fit.segmenter*;
sample -> reject (where [evaluate.reject] names judges) -> feature networks fitted on samples;
all -> evaluate -> report. A trainable table is one whose options hold a `fit` of FitOptions.
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import frozen

from gen_core.errors import RecipeError, UsageError
from gen_core.options import METRICS, FitOptions
from gen_core.recipe.structure import table_references
from gen_core.run.fingerprint import depends, fingerprint
from gen_core.run.sample_sources import source_facts


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
    return isinstance(getattr(table.options, "fit", None), FitOptions)


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
    names: set[str] = set()
    has = set(recipe.tables)
    early, late = supporting_tables(recipe)

    def add(name: str, upstream: tuple[str, ...], settings: dict[str, Any], table: str = "") -> None:
        steps.append(StepSpec(name, upstream, settings, table))
        names.add(name)

    def add_supporting(table: Any, *more: str) -> None:
        used = uses(recipe, table)
        fits = [f"fit.{t}" for t in used if is_trainable(recipe.table(t))]
        codec = ["encode"] if len(fits) < len(used) else []  # a network without a fit of its own may be the codec's
        upstream = tuple(n for n in ("prepare", *codec, *more, *fits) if n in names)
        add(f"fit.{table.name}", upstream, {table.kind: table_settings(table), "seed": seed}, table.name)

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
            {
                "encode": attrs.asdict(recipe.encode),
                "codec": table_settings(table),
                "seed": seed,
                **({"condition": _plain(recipe.conditions)} if recipe.conditions else {}),
                **approximations(recipe),
            },
        )
    if "prior" in has:
        if "codec" not in has:
            raise UsageError(f'{recipe.path}: a [prior] needs a [codec] (use = "identity" for none)')
        table = recipe.table("prior")
        if is_trainable(table):
            judges = _selecting(recipe, table, late)
            for judge in judges:
                if judge in early:
                    add_supporting(judge)
            fits = tuple(f"fit.{t.name}" for t in judges if t in early)
            settings = {"prior": table_settings(table), "seed": seed}
            if judges:
                settings["select"] = _selection_settings(recipe, judges)
            add("fit.prior", ("encode", *fits), settings, "prior")
        if "sampler" in has:
            add(
                "sample",
                ("encode", "fit.prior") if is_trainable(table) else ("encode",),
                {
                    "sampler": table_settings(recipe.table("sampler")),
                    "sample": _sample_settings(recipe),
                    "prior": table_settings(table),
                    "seed": seed,
                    **approximations(recipe),
                },
            )
    for table in early:
        if f"fit.{table.name}" not in names:
            add_supporting(table)
    rejecting = recipe.evaluate.reject.by if "sample" in names else ()
    if rejecting:
        judges = [recipe.table(name) for name in rejecting]
        needed = {name: recipe.table(name) for judge in judges for name in uses(recipe, judge)}
        waiting = [name for name, table in needed.items() if table in late]
        if waiting:
            raise RecipeError(
                f"{recipe.path}: [evaluate.reject] by: a judge uses [{waiting[0]}], which is fitted on samples; "
                f"samples are judged before that"
            )
        add(
            "reject",
            tuple(n for n in ("prepare", "encode", "sample", *(f"fit.{t}" for t in needed)) if n in names),
            {
                "evaluate": attrs.asdict(recipe.evaluate),
                "tables": {t.name: table_settings(t) for t in (*judges, *needed.values())},
                "seed": seed,
            },
        )
    for table in late:
        if "sample" not in names:
            raise RecipeError(f"{recipe.path}: [{table.name}] train_on: this recipe draws no samples")
        add_supporting(table, "sample", "reject")
    metrics = recipe.tables_of("metric")
    if metrics:
        tables = metrics + recipe.tables_of("features") + recipe.tables_of("segmenter")
        fits = (f"fit.{t.name}" for t in (*early, *late))
        add(
            "evaluate",
            tuple(n for n in ("prepare", "encode", "sample", "reject", *fits) if n in names),
            {
                "evaluate": attrs.asdict(recipe.evaluate),
                "tables": {t.name: table_settings(t) for t in tables},
                "seed": seed,
            },
        )
    for table in recipe.tables_of("report"):
        add(
            "report",
            tuple(n for n in ("prepare", "encode", "sample", "evaluate") if n in names),
            {"report": table_settings(table), "demonstration": recipe.run.demonstration},
        )
    return steps


def approximations(recipe: Any) -> dict[str, Any]:
    """What [tiling] changes in latents and samples: nothing, unless it is "fast"."""
    o = recipe.tiling
    return {"tiling": {"mode": "fast", "tile": o.tile, "overlap": o.overlap}} if o.mode == "fast" else {}


def _plain(tables: dict[str, Any]) -> dict[str, Any]:
    return {name: attrs.asdict(options) for name, options in tables.items()}


def _selecting(recipe: Any, prior: Any, late: list[Any]) -> list[Any]:
    """The metric that chooses the prior's weights and the tables that it uses, the farthest first; none by default."""
    name = prior.options.fit.select
    if not name.startswith(METRICS):
        return []
    metric = recipe.table(name)
    judges = [recipe.table(t) for t in uses(recipe, metric)] + [metric]
    waiting = [t.name for t in judges if t in late]
    if waiting:
        raise RecipeError(
            f"{recipe.path}: [prior.fit] select = '{name}' uses [{waiting[0]}], which is fitted on samples; "
            f"the prior is fitted before that"
        )
    return judges


def _selection_settings(recipe: Any, judges: list[Any]) -> dict[str, Any]:
    """What the choice of a prior's weights depends on, beside the prior's own settings."""
    sample = {k: v for k, v in _sample_settings(recipe).items() if k not in ("n", "batch", "steps", "format")}
    return {
        "tables": {t.name: table_settings(t) for t in judges},
        "sampler": table_settings(recipe.table("sampler")),
        "sample": sample,
        "seed": recipe.evaluate.seed,
    }


def _sample_settings(recipe: Any) -> dict[str, Any]:
    """[sample] as far as it acts: conditions and guidance only where conditions are declared."""
    settings = attrs.asdict(recipe.sample)
    about = {key: settings.pop(key) for key in ("conditions", "fixed", "guidance", "guidance_interval")}
    return {**settings, **about, "source": source_facts(recipe.sample)} if recipe.conditions else settings


def uses(recipe: Any, table: Any) -> list[str]:
    """Names of the tables whose fitted modules `table` uses, the farthest first."""
    found: list[str] = []
    for _, _, name in table_references(table.options):
        for inner in (*uses(recipe, recipe.table(name)), name):
            if inner not in found:
                found.append(inner)
    return found


def supporting_tables(recipe: Any) -> tuple[list[Any], list[Any]]:
    """Trainable feature networks and segmenters, each after those it uses: (fitted on real volumes, on samples too).

    A table that uses one of the second kind is of the second kind itself. Raises: RecipeError when one uses itself.
    """
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise RecipeError(f"{recipe.path}: [{name}] uses itself: {' -> '.join((*path, name))}")
        for _, _, inner in table_references(recipe.table(name).options):
            visit(inner, (*path, name))
        if name not in order:
            order.append(name)

    for table in recipe.tables_of("features") + recipe.tables_of("segmenter"):
        visit(table.name, ())
    on_samples: set[str] = set()
    for name in order:
        table = recipe.table(name)
        if getattr(table.options, "train_on", "real") != "real" or on_samples & set(uses(recipe, table)):
            on_samples.add(name)
    tables = [recipe.table(name) for name in order if is_trainable(recipe.table(name))]
    return [t for t in tables if t.name not in on_samples], [t for t in tables if t.name in on_samples]


def downstream(steps: list[StepSpec], name: str) -> set[str]:
    """`name` and every step that depends on it."""
    found = {name}
    for step in steps:
        if found & set(step.upstream):
            found.add(step.name)
    return found
