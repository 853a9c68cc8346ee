"""What a run was asked for, and the recipe and the folder that this means."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from gen_core.errors import UsageError
from gen_core.recipe import Recipe, load_recipe, resolve_recipe_path
from gen_core.registry import Registry
from gen_core.run.folder import RunFolder
from gen_core.run.smoke import smoke_recipe

RUNS = Path("runs")


@frozen
class RunRequest:
    """What `gen run` was asked for."""

    recipe: str | Path
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    resume: str = "auto"  # auto, must, never
    fork: str | None = None
    from_step: str | None = None
    until_step: str | None = None
    only_step: str | None = None
    dry_run: bool = False
    smoke: bool = False
    seed: int | None = None
    device: str | None = None
    offline: bool = False


def resolve(request: RunRequest, registry: Registry | None = None) -> tuple[Recipe, RunFolder]:
    """The recipe and the folder of a request; writes nothing.

    Raises: RecipeError; UsageError where the folder is not as `resume` says.
    """
    recipe = recipe_of(request, registry or Registry.load())
    folder = folder_of(request, recipe)
    if request.resume == "must" and not folder.exists:
        raise UsageError(f"--resume must: there is no run in {folder.path}")
    if request.resume == "never" and folder.exists:
        raise UsageError(f"--resume never: {folder.path} already holds a run; choose another --out or --fork NAME")
    return recipe, folder


def recipe_of(request: RunRequest, registry: Registry) -> Recipe:
    """The recipe with all that the request changes in it. Raises: RecipeError."""
    overrides = list(request.overrides)
    if request.seed is not None:
        overrides.append(f"seed={request.seed}")
    if request.device is not None:
        overrides.append(f'device="{request.device}"')
    recipe = load_recipe(resolve_recipe_path(request.recipe), overrides, registry)
    if request.smoke:
        recipe = smoke_recipe(recipe)
    if request.fork:
        recipe = evolve(recipe, run=evolve(recipe.run, name=request.fork))
    return recipe


def folder_of(request: RunRequest, recipe: Recipe) -> RunFolder:
    """Where the run lies, or will lie."""
    out = Path(request.out) if request.out else RUNS / recipe.run.name
    if request.fork and request.out:
        out = out.parent / request.fork
    return RunFolder(out)
