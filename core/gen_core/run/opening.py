"""A run that lies on disk, opened: the recipe it was made with, its folder, how it was started."""

from __future__ import annotations

from pathlib import Path

from gen_core.errors import UsageError
from gen_core.recipe import Recipe, load_recipe
from gen_core.registry import Registry
from gen_core.run.folder import LOCK_RECIPE, RunFolder, check_lock, read_json


def open_run(folder: str | Path, overrides: tuple[str, ...] = ()) -> tuple[Recipe, Registry, RunFolder]:
    """The recipe a run folder was made with. Raises: UsageError when there is none."""
    run_folder = RunFolder(Path(folder))
    if not run_folder.exists:
        raise UsageError(f"{folder}: no run here (no {LOCK_RECIPE})")
    check_lock(run_folder.path / LOCK_RECIPE)
    registry = Registry.load()
    recipe = load_recipe(run_folder.path / LOCK_RECIPE, list(overrides), registry)
    return recipe, registry, run_folder


def is_smoke(folder: RunFolder) -> bool:
    """Whether a run was started as a smoke run."""
    started = read_json(folder.path / "steps" / "prepare" / "started.json") or {}
    return bool(started.get("settings", {}).get("smoke"))
