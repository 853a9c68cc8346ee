"""What steps were begun with, and in what the recipe differs from it now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.errors import RunError, UsageError
from gen_core.run.context import RunContext
from gen_core.run.fingerprint import differences
from gen_core.run.folder import DONE, read_sealed
from gen_core.run.graph import StepSpec

STARTED = "started.json"


def fingerprints(ctx: RunContext, steps: list[StepSpec]) -> dict[str, str]:
    """Step name -> fingerprint. A step taken `from` another run bears that run's."""
    prints: dict[str, str] = {}
    for step in steps:
        origin = taken_from(ctx, step)
        if origin is not None:
            prints[step.name] = (read_sealed(origin / DONE) or {})["fingerprint"]
        else:
            prints[step.name] = step.print(prints)
    return prints


def taken_from(ctx: RunContext, step: StepSpec) -> Path | None:
    """The finished step folder that `[table] from = RUN` names, or None."""
    if not step.table or not ctx.recipe.table(step.table).from_:
        return None
    run = Path(ctx.recipe.table(step.table).from_)
    folder = run / "steps" / step.name
    done = read_sealed(folder / DONE)
    if not done:
        raise UsageError(f'{ctx.recipe.path}: [{step.table}] from = "{run}": no finished {folder}')
    return (folder / done["reference"]).resolve() if done.get("reference") else folder


def changed(ctx: RunContext, steps: list[StepSpec], prints: dict[str, str]) -> dict[str, list[str]]:
    """Steps that were started with other settings -> the lines that differ."""
    found = {}
    for step in steps:
        started = started_with(ctx.folder.path / "steps" / step.name)
        if not started or started.get("fingerprint") == prints[step.name]:
            continue
        lines = differences(started.get("settings", {}), step.settings)
        if lines or not set(step.upstream) & found.keys():
            found[step.name] = lines or ["made from other upstream results"]
    return found


def started_with(folder: Path) -> dict[str, Any] | None:
    """With what a step was begun, None where it was not. Raises: RunError when that cannot be told."""
    started = read_sealed(folder / STARTED)
    if started is None and (folder / STARTED).exists():
        raise RunError(f"{folder / STARTED}: damaged: with which settings? Delete {folder} to begin that step again")
    return started
