"""The resolved recipe: every table a component with its settings, every mistake found before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, frozen

from gen_core.errors import MissingError, RecipeError
from gen_core.options import (
    METRICS,
    ConditionOptions,
    EncodeOptions,
    EvaluateOptions,
    FitOptions,
    RunOptions,
    SampleOptions,
    SplitOptions,
    SweepOptions,
    TilingOptions,
    VolumeOptions,
)
from gen_core.recipe.layers import DEFAULT_USE, GEN, NAMED, Merged, read_layers
from gen_core.recipe.structure import plain, read_options, table_references
from gen_core.recipe.write import key_text, to_toml
from gen_core.registry import Component, Registry, did_you_mean

CORE = {
    "volume": VolumeOptions,
    "split": SplitOptions,
    "encode": EncodeOptions,
    "sample": SampleOptions,
    "evaluate": EvaluateOptions,
    "sweep": SweepOptions,
    "tiling": TilingOptions,
}
"""Tables that core itself reads."""

CONDITION = "condition"
"""The table of named conditions."""

KIND_OF = {
    "dataset": "dataset",
    "codec": "codec",
    "prior": "prior",
    "sampler": "sampler",
    "features": "features",
    "segmenter": "segmenter",
    "metrics": "metric",
    "report": "report",
    "trackers": "tracker",
}
"""Top-level component table -> kind."""

RUN_KEYS = tuple(f.alias for f in attrs.fields(RunOptions))


@frozen
class Table:
    """One component of a recipe. from_: a run whose finished step is taken; init: a run whose weights start it."""

    name: str
    kind: str
    use: str
    options: Any
    component: Component
    from_: str | None = None
    init: str | None = None


@frozen
class Recipe:
    """A recipe with every setting known. tables: by name ("codec", "features.codec", "metrics.fid"), in order.

    doc: the comment paragraph at the top of the file.
    """

    path: Path
    run: RunOptions
    volume: VolumeOptions
    split: SplitOptions
    encode: EncodeOptions
    sample: SampleOptions
    evaluate: EvaluateOptions
    sweep: SweepOptions
    tables: dict[str, Table]
    tiling: TilingOptions = TilingOptions()
    conditions: dict[str, ConditionOptions] = Factory(dict)
    doc: str = ""

    def table(self, name: str) -> Table:
        """The table `name`. Raises: RecipeError naming those there are."""
        if name not in self.tables:
            near = did_you_mean(name, self.tables)
            raise RecipeError(f"{self.path}: has no [{name}]; it has {', '.join(self.tables) or 'none'}{near}")
        return self.tables[name]

    def tables_of(self, kind: str) -> list[Table]:
        """All tables of one kind, in the recipe's order."""
        return [t for t in self.tables.values() if t.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """Everything, defaults included, as JSON-able data that `from_dict` takes back."""
        data = {"gen": GEN, **plain(self.run)}
        data |= {name: plain(getattr(self, name)) for name in CORE}
        if self.conditions:
            data[CONDITION] = {name: plain(options) for name, options in self.conditions.items()}
        for table in self.tables.values():
            settings = {"use": table.use, "from": table.from_, "init": table.init}
            settings = {k: v for k, v in settings.items() if v is not None} | plain(table.options)
            top, _, name = table.name.partition(".")
            if name:
                data.setdefault(top, {})[name] = settings
            else:
                data[top] = settings
        return data

    def to_toml(self) -> str:
        """`to_dict` as TOML (recipe.lock.toml): loads back to an equal recipe."""
        return to_toml(self.to_dict(), self.doc)

    @classmethod
    def from_dict(cls, data: dict[str, Any], registry: Registry | None = None, path: Path = Path("recipe")) -> Recipe:
        """The inverse of `to_dict`. Raises: RecipeError."""
        data = {k: v for k, v in data.items() if k != "gen"}
        return _resolve(Merged(_without_none(data), []), registry or Registry.load(), path, "")


def load_recipe(path: str | Path, overrides: Sequence[str] = (), registry: Registry | None = None) -> Recipe:
    """Read, merge and check a recipe file.

    overrides: "key.path=value" each, applied after the bases; the value is TOML, or else text.
    Raises: RecipeError with one line for every mistake; MissingError for a component that cannot be imported.
    """
    path = Path(path)
    merged = read_layers(path, overrides)
    return _resolve(merged, registry or Registry.load(), path, merged.files[0].doc)


def _resolve(merged: Merged, registry: Registry, path: Path, doc: str) -> Recipe:
    problems: list[tuple[str, str]] = []
    missing: list[MissingError] = []

    def problem(key: tuple[str, ...], message: str, value: Any = None) -> None:
        problems.append((merged.place(key), merged.problem(key, message, value)))

    data = merged.data
    known = [*RUN_KEYS, *CORE, CONDITION, *KIND_OF]
    for name, value in data.items():
        if name not in known:
            what = "table" if isinstance(value, dict) else "setting"
            problem((name,), f"no such {what}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}", value)
    run = {k: data[k] for k in RUN_KEYS if k in data}
    run.setdefault("name", path.stem.removesuffix(".lock"))
    parts = {"run": read_options(RunOptions, run, (), problem)}
    for name, cls in CORE.items():
        part = data.get(name, {})
        if isinstance(part, dict):
            parts[name] = read_options(cls, part, (name,), problem)
        else:
            problem((name,), f"expected a table [{name}]", part)
    conditions = _conditions(data.get(CONDITION, {}), problem)
    if isinstance(data.get("sample"), dict) and isinstance(data["sample"].get("format"), str):
        try:
            registry.get("writer", data["sample"]["format"])
        except RecipeError as error:
            problem(("sample", "format"), str(error), data["sample"]["format"])
    tables: dict[str, Table] = {}
    names: dict[str, str] = {}  # of all tables asked for, right or wrong: name -> kind
    for key, settings in _component_tables(data, problem):
        name = ".".join(key)
        names[name] = KIND_OF[key[0]]
        try:
            table = _table(key, settings, registry, problem)
        except MissingError as error:
            missing.append(error)
            continue
        if table:
            tables[name] = table
    referring = [(_key(table.name), table.options) for table in tables.values()]
    if parts["evaluate"]:
        referring.append((("evaluate", "reject"), parts["evaluate"].reject))
        referring.append((("evaluate", "classes"), parts["evaluate"].classes))
        of = parts["evaluate"].classes.of
        if of and (of not in conditions or (conditions[of] and conditions[of].kind != "class")):
            classes = [name for name, table in conditions.items() if table and table.kind == "class"]
            near = did_you_mean(of, classes)
            problem(
                ("evaluate", "classes", "of"),
                f"no such class condition; there are {', '.join(classes) or 'none'}{near}",
                of,
            )
    for at, options in referring:
        for setting, kind, name in table_references(options):
            if names.get(name) != kind:
                of_kind = [n for n, k in names.items() if k == kind]
                message = f"no such {kind} table; the recipe has {', '.join(of_kind) or 'none'}"
                problem((*at, setting), message + did_you_mean(name, of_kind), name)
    for table in tables.values():
        _check_selection(table, names, problem)
    if problems:
        raise RecipeError(list(dict.fromkeys(line for _, line in sorted(problems, key=_by_line))))
    if missing:
        raise missing[0]
    return Recipe(path=path, tables=tables, conditions=conditions, doc=doc, **parts)


def _check_selection(table: Table, names: dict[str, str], problem: Any) -> None:
    """[prior.fit] select = "metrics.NAME" needs a prior, that metric, a sampler and validations."""
    fit = getattr(table.options, "fit", None)
    if not isinstance(fit, FitOptions) or not fit.select.startswith(METRICS):
        return
    at = (*_key(table.name), "fit")
    metrics = [n for n, kind in names.items() if kind == "metric"]
    if table.kind != "prior":
        problem((*at, "select"), "only a prior draws samples that a metric could score", fit.select)
    elif fit.select not in metrics:
        message = f"no such metric table; the recipe has {', '.join(metrics) or 'none'}"
        problem((*at, "select"), message + did_you_mean(fit.select, metrics), fit.select)
    elif "sampler" not in names:
        problem((*at, "select"), "a metric scores samples: the recipe needs a [sampler]", fit.select)
    elif fit.validate_every == 0:
        problem((*at, "validate_every"), f"select = '{fit.select}' needs validations during the fit", 0)


def _conditions(data: Any, problem: Any) -> dict[str, ConditionOptions]:
    """[condition.NAME] by name; those switched off are left out."""
    if not isinstance(data, dict):
        problem((CONDITION,), "expected tables [condition.NAME]", data)
        return {}
    found = {}
    for name, settings in data.items():
        if not isinstance(settings, dict):
            problem((CONDITION, name), f"expected a table [condition.{name}]", settings)
        elif settings.get("off", False) is not True:
            settings = {k: v for k, v in settings.items() if k != "off"}
            found[name] = read_options(ConditionOptions, settings, (CONDITION, name), problem)
    return found


def _component_tables(data: dict[str, Any], problem: Any) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Key and settings of each component table, in the recipe's order; tables switched off are left out."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for top, value in data.items():
        if top not in KIND_OF:
            continue
        if top not in NAMED:
            found.append(((top,), value))
        elif not isinstance(value, dict):
            problem((top,), f"expected a table [{top}] or [{top}.NAME]", value)
        elif top in ("features", "segmenter") and ("use" in value or isinstance(value.get("off"), bool)):
            found.append(((top,), value))  # one component; `off` also ends inherited named ones
        else:
            found += [((top, name), settings) for name, settings in value.items()]
    tables = []
    for key, settings in found:
        if not isinstance(settings, dict):
            hint = "" if len(key) == 1 or key[0] in ("metrics", "trackers") else f" (or `use` in [{key[0]}])"
            problem(key, f"expected a table [{key_text(key)}]{hint}", settings)
        elif any("." in part for part in key):
            problem(key, "a table's name holds no dot", settings)
        elif settings.get("off", False) is not True:
            tables.append((key, settings))
    return tables


def _table(key: tuple[str, ...], settings: dict[str, Any], registry: Registry, problem: Any) -> Table | None:
    kind, settings = KIND_OF[key[0]], dict(settings)
    default = key[-1] if key[0] in ("metrics", "trackers") else DEFAULT_USE.get(key[0])
    off, use = settings.pop("off", False), settings.pop("use", default)
    ok = True

    def wrong(at: tuple[str, ...], message: str, value: Any = None) -> None:
        nonlocal ok
        ok = False
        problem(at, message, value)

    if not isinstance(off, bool):
        wrong((*key, "off"), "expected true or false", off)
    if use is None:
        wrong((*key, "use"), f"missing; installed: {', '.join(registry.names(kind)) or 'none'}")
        return None
    if not isinstance(use, str):
        wrong((*key, "use"), f"expected the name of a {kind}", use)
        return None
    if len(use) > 64 or not use.isprintable():
        wrong((*key, "use"), f"no {kind} has such a name; installed: {', '.join(registry.names(kind)) or 'none'}", use)
        return None
    try:
        component = registry.get(kind, use)
    except RecipeError as error:
        wrong((*key, "use"), str(error), use)
        return None
    cls = component.options_class()
    links: dict[str, str | None] = {"from": None, "init": None}
    if any(f.name == "fit" for f in attrs.fields(cls)):
        for name in links:
            links[name] = settings.pop(name, None)
            if links[name] is not None and not isinstance(links[name], str):
                wrong((*key, name), "expected the folder of a run", links[name])
        if links["from"] and links["init"]:
            wrong((*key, "init"), "`from` takes the finished step, so there is nothing to start", links["init"])
    options = read_options(cls, settings, key, wrong)
    fit = getattr(options, "fit", None)
    if isinstance(fit, FitOptions) and fit.batch % fit.accumulate:
        wrong((*key, "fit", "accumulate"), f"does not divide batch = {fit.batch}", fit.accumulate)
    if not ok or options is None:
        return None
    return Table(".".join(key), kind, use, options, component, links["from"], links["init"])


def _key(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


def _by_line(problem: tuple[str, str]) -> tuple[str, int]:
    """Order of messages: by file, then by line."""
    file, _, line = problem[0].rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem[0], 0)


def _without_none(data: Any) -> Any:
    """The data without None: what is absent takes its default, as in TOML."""
    return {k: _without_none(v) for k, v in data.items() if v is not None} if isinstance(data, dict) else data
