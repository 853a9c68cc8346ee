"""Runs as a whole: a recipe from raw files to the report, its dry run, one step of a run that exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, frozen

from gen_core import atomic
from gen_core.engine.device import resolve_device
from gen_core.engine.join import device_of, joined
from gen_core.engine.stop import StopFlag
from gen_core.errors import UsageError
from gen_core.recipe import Recipe
from gen_core.registry import Registry
from gen_core.run.context import RunContext
from gen_core.run.cost import machine
from gen_core.run.failures import raise_clear
from gen_core.run.folder import LOCK_RECIPE, RunFolder, write_lock
from gen_core.run.graph import StepSpec, build_graph
from gen_core.run.opening import is_smoke, open_run
from gen_core.run.plan import describe
from gen_core.run.progress import Silent
from gen_core.run.request import RunRequest, folder_of, recipe_of, resolve
from gen_core.run.runner import follow, walk


@frozen
class RunOutcome:
    """How it ended: the folder, a row a step, and the report when there is one."""

    folder: Path
    steps: list[dict[str, Any]] = Factory(list)
    report: Path | None = None
    metrics: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Path) else v for k, v in attrs.asdict(self).items()}


def run(request: RunRequest, progress: Any = None) -> RunOutcome:
    """Do what a recipe says, from raw files to the report; go on where an earlier run stopped.

    Raises: RecipeError, UsageError (2), MissingError (3), DataError (4), RunError (5), Stopped (75).
    """
    registry = Registry.load()
    recipe, folder = resolve(request, registry)

    def work(ctx: RunContext) -> list[dict[str, Any]]:
        steps = _graph(ctx)
        if not folder.exists:
            write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
            atomic.write_json(folder.path / "machine.json", machine(ctx))
        rows = walk(ctx, steps, only=request.only_step, until=request.until_step, redo_from=request.from_step)
        write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
        return rows

    return _outcome(folder, _working(recipe, registry, folder, progress or Silent(), request.smoke, work))


def plan(request: RunRequest) -> dict[str, Any]:
    """The dry run of a request; writes nothing."""
    registry = Registry.load()
    recipe = recipe_of(request, registry)
    folder = folder_of(request, recipe)
    ctx = RunContext(recipe, registry, folder, resolve_device("cpu"), Silent(), StopFlag(), request.smoke)
    return describe(ctx, build_graph(recipe, {}, request.smoke))


def run_single(
    run_dir: str | Path, step: str, overrides: tuple[str, ...] = (), redo: bool = False, progress: Any = None
) -> RunOutcome:
    """One step of an existing run; what lies upstream must be finished. redo: make it again even if it is done.

    "train" stands for everything up to the last fit. Raises: UsageError naming the unfinished step.
    """
    recipe, registry, folder = open_run(run_dir, overrides)

    def work(ctx: RunContext) -> list[dict[str, Any]]:
        steps = _graph(ctx)
        if step == "train":
            fits = [s.name for s in steps if s.table]
            if not fits:
                raise UsageError(f"{run_dir}: this recipe has nothing to fit")
            rows = walk(ctx, steps, only=None, until=fits[-1], redo_from=None)
        else:
            rows = walk(ctx, steps, only=step, until=None, redo_from=step if redo else None)
        write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
        return rows

    return _outcome(folder, _working(recipe, registry, folder, progress or Silent(), is_smoke(folder), work))


def _working(
    recipe: Recipe,
    registry: Registry,
    folder: RunFolder,
    progress: Any,
    smoke: bool,
    work: Callable[[RunContext], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """`work` in a locked run folder, signals caught. Of several processes the first does it; the others follow."""
    with StopFlag() as stop, joined(stop) as ranks:
        device = device_of(recipe.run.device, ranks)
        ctx = RunContext(recipe, registry, folder, device, progress, stop, smoke, ranks=ranks)
        if not ranks.leads:
            ctx.progress = Silent()
            follow(ctx)
            return []
        try:
            with folder.locked():
                rows = work(ctx)
        except OSError as error:
            raise_clear(error, folder.path)
        ranks.told()  # that there is no more to follow
        return rows


def _graph(ctx: RunContext) -> list[StepSpec]:
    return build_graph(ctx.recipe, ctx.dataset.fingerprint(), ctx.smoke)


def _outcome(folder: RunFolder, rows: list[dict[str, Any]]) -> RunOutcome:
    there = lambda name: folder.path / name if (folder.path / name).exists() else None
    return RunOutcome(folder.path, rows, there("report.html"), there("metrics.json"))
