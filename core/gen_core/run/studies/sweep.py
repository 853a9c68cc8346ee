"""Sweeps: runs that differ in a few settings, their order and their state.

Children are ordinary run folders side by side in the sweep's folder, so that equal steps are done once and taken by
reference. `sweep.json` says what the sweep consists of and how far it is; the same command again goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import Factory, define, field, frozen

from gen_core import __version__, atomic
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped, UsageError
from gen_core.recipe import Recipe, load_recipe, resolve_recipe_path
from gen_core.recipe.write import value_text
from gen_core.registry import Registry
from gen_core.run.api import plan
from gen_core.run.folder import held, read_json
from gen_core.run.graph import build_graph
from gen_core.run.request import RUNS, RunRequest
from gen_core.run.runner import DERIVED
from gen_core.run.smoke import smoke_recipe
from gen_core.run.studies.children import run_children
from gen_core.run.studies.compare import SWEEP
from gen_core.run.studies.grid import combinations, named, parse_axis
from gen_core.run.studies.scores import pick, read_run
from gen_core.run.studies.search import ask

NOT_SHARED = ("sample", *DERIVED)  # steps that every run does itself


@frozen
class SweepRequest:
    """What `gen sweep` was asked for. grid: "key=a,b,c" each, beside the recipe's own; only: names of children."""

    recipe: str | Path
    overrides: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    out: Path | None = None
    until_step: str | None = None
    device: str | None = None
    offline: bool = False
    smoke: bool = False
    max_parallel: int = 1
    trials: int = 0  # of a search with optuna; 0 = the grid
    aim: str = ""  # the score that a search looks at, as `gen compare --metric` names it
    maximize: bool = False


@define
class Child:
    """One run of a sweep. prints: step -> fingerprint, as far as it is known before the data are read.

    state: to do, running, done, failed, stopped; why: the last words of one that failed.
    """

    name: str
    settings: dict[str, Any]
    folder: Path
    request: RunRequest
    prints: dict[str, str] = Factory(dict)
    state: str = "to do"
    code: int | None = None
    why: str = ""
    value: float | None = field(default=None)  # what a search found

    def to_json(self) -> dict[str, Any]:
        row = {"name": self.name, "settings": self.settings, "state": self.state}
        more = {"code": self.code, "why": self.why, "value": self.value}
        return row | {k: v for k, v in more.items() if v not in (None, "")}


@frozen
class SweepOutcome:
    """The sweep's folder and a row a child."""

    folder: Path
    children: list[dict[str, Any]]

    @property
    def failed(self) -> list[str]:
        return [row["name"] for row in self.children if row["state"] == "failed"]


class Sweep:
    """A request resolved: the recipe, the folder and the children. Nothing is written before `save`."""

    def __init__(self, request: SweepRequest):
        self.request, self.registry = request, Registry.load()
        self.path = resolve_recipe_path(request.recipe)
        added = [f"sweep.grid.{value_text(key)}={value_text(values)}" for key, values in map(parse_axis, request.grid)]
        if request.seeds:
            added.append(f"sweep.grid.seed={list(request.seeds)}")
        recipe = load_recipe(self.path, [*request.overrides, *added], self.registry)
        name = f"{recipe.run.name}-smoke" if request.smoke else recipe.run.name
        self.name, self.options = recipe.run.name, recipe.sweep
        self.seed = recipe.run.seed
        self.folder = Path(request.out) if request.out else RUNS / name
        self.children: list[Child] = []

    def child(self, name: str, settings: dict[str, Any]) -> Child:
        """A child whose recipe resolves. Raises: RecipeError naming the child."""
        own = [f"name={value_text(f'{self.name}-{name}')}"]
        own += [f"{key}={value_text(value)}" for key, value in settings.items()]
        asked = self.request
        request = RunRequest(
            self.path,
            (*asked.overrides, *own),
            self.folder / name,
            until_step=asked.until_step,
            smoke=asked.smoke,
            device=asked.device,
            offline=asked.offline,
        )
        try:
            recipe = load_recipe(self.path, request.overrides, self.registry)
            prints = fingerprints(smoke_recipe(recipe) if asked.smoke else recipe, asked.smoke)
        except RecipeError as error:
            raise RecipeError([f"sweep, child '{name}': {line}" for line in error.problems]) from None
        return Child(name, settings, self.folder / name, request, prints)

    def fill(self) -> None:
        """Make the children of the grid, every mistake of all of them told at once; take over their states."""
        problems: list[str] = []
        for name, settings in named(combinations(self.options), self.options):
            try:
                self.children.append(self.child(name, settings))
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(problems)
        known = [c.name for c in self.children]
        for name in self.request.only:
            if name not in known:
                raise UsageError(f"the sweep has no child '{name}'; its children: {', '.join(known)}")
        self.recall()

    def check_search(self) -> None:
        """Raises: UsageError when a search was asked for that nobody has described."""
        example = '"prior.fit.lr" = {low = 1e-5, high = 1e-3, log = true}'
        if not self.options.search:
            raise UsageError(f"{self.path}: --optuna needs [sweep.search], for example {example}")
        if not self.request.aim:
            raise UsageError("--optuna needs --minimize SCORE or --maximize SCORE, e.g. --minimize hyperspectral-fid")

    def recall(self) -> None:
        """States that an earlier call left; what it did not finish is to be done again."""
        rows = {row["name"]: row for row in (read_json(self.folder / SWEEP) or {}).get("children", [])}
        for child in self.children:
            row = rows.get(child.name, {})
            if row.get("settings") == child.settings and row.get("state") == "done":
                child.state, child.value = "done", row.get("value")

    def save(self) -> None:
        """Write sweep.json."""
        atomic.write_json(
            self.folder / SWEEP,
            {
                "sweep": self.name,
                "recipe": str(self.path),
                "gen": __version__,
                "overrides": list(self.request.overrides),
                "aim": self.request.aim,
                "children": [child.to_json() for child in self.children],
            },
        )


def sweep(request: SweepRequest, command: Callable[[RunRequest], list[str]], progress: Any = None) -> SweepOutcome:
    """Run every child of a sweep that is not done; a failing one does not stop the others.

    command: the words that start one run as a process of its own. progress: where children's lines go; None lets a
    single child at a time write to our own stdout. Raises: RecipeError, UsageError before anything runs; Stopped.
    """
    asked = Sweep(request)
    asked.check_search() if request.trials else asked.fill()
    with held(asked.folder), StopFlag() as stop:

        def go(children: list[Child]) -> None:
            asked.save()
            run_children(
                children, command, parallel=request.max_parallel, stop=stop, progress=progress, changed=asked.save
            )

        if request.trials:
            _search(asked, go, stop)
        else:
            wanted = [c for c in asked.children if not request.only or c.name in request.only]
            for child in wanted:
                child.state = "to do"  # a finished one skips its steps, and says so when its settings changed
            go(wanted)
        stopped = [c.name for c in asked.children if c.state == "stopped"]
        if stop.requested or stopped:
            why = f"stopped by {stop.requested}" if stop.requested else f"{', '.join(stopped)} stopped"
            raise Stopped(f"{why}; the same command goes on from here")
    return SweepOutcome(asked.folder, [child.to_json() for child in asked.children])


def _search(asked: Sweep, go: Callable[[list[Child]], None], stop: StopFlag) -> None:
    """Trials in rounds of `max_parallel`: a round knows all results before it, so a resumed search is the same one."""
    request, space = asked.request, asked.options.search
    for row in (read_json(asked.folder / SWEEP) or {}).get("children", [])[: request.trials]:
        asked.children.append(asked.child(row["name"], row["settings"]))
    asked.recall()
    while not stop.requested:
        pending = [c for c in asked.children if c.state not in ("done", "failed")]
        if not pending and len(asked.children) >= request.trials:
            return
        if not pending:
            tried = [(c.settings, c.value) for c in asked.children]
            n = min(request.max_parallel, request.trials - len(tried))
            for settings in ask(space, tried, n, asked.seed, request.maximize):
                asked.children.append(asked.child(f"trial-{len(asked.children):03d}", settings))
            continue
        go(pending)
        for child in pending:
            if child.state == "done":
                child.value = pick(list(read_run(child.folder).scores.values()), request.aim).value
        asked.save()
        if any(c.state == "stopped" for c in pending):
            return


def plan_sweep(request: SweepRequest) -> dict[str, Any]:
    """The dry run: each child with its settings, what it shares, its size, and what is missing. Writes nothing."""
    asked = Sweep(request)
    asked.fill()
    first: dict[str, str] = {}
    rows = []
    for child in asked.children:
        if request.only and child.name not in request.only:
            continue
        shared = {step: first[p] for step, p in child.prints.items() if p in first and step not in NOT_SHARED}
        for print_ in child.prints.values():
            first.setdefault(print_, child.name)
        found = plan(child.request)
        rows.append(
            {
                "name": child.name,
                "settings": child.settings,
                "shared": shared,
                "computed": [step for step in child.prints if step not in shared],
                **{key: found[key] for key in ("shapes", "parameters", "gflop", "memory_gib", "missing", "notes")},
            }
        )
    return {"sweep": asked.name, "folder": str(asked.folder), "children": rows}


def fingerprints(recipe: Recipe, smoke: bool) -> dict[str, str]:
    """Step -> fingerprint of a recipe's run, but for what its source files add: equal here is equal there."""
    prints: dict[str, str] = {}
    for step in build_graph(recipe, {}, smoke):
        prints[step.name] = step.print(prints)
    return prints
