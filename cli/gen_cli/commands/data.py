"""`gen data`: what a file holds, or what a recipe's data set delivers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Json, Set, wavelengths
from gen_cli.show import as_json, facts

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into data files and data sets.")


@app.callback()
def group() -> None:
    """Look into data files and data sets."""


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A data file or folder, or a recipe.")],
    variable: Annotated[str | None, typer.Option(help="Which array of a file with several.")] = None,
    wavelengths_nm: Annotated[
        str | None, typer.Option(metavar="NM,NM,...", help="Wavelengths, where the file is silent.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Shape, axes, wavelengths, range, mean, hash and warnings of a file; spec and splits of a recipe's data set."""
    bands = wavelengths(wavelengths_nm) if wavelengths_nm else None
    from gen_core.registry import Registry

    registry = Registry.load()
    if _is_recipe(path):
        found = _dataset(path, set_ or [], registry)
    else:
        from gen_core.inspect import inspect_path

        found = inspect_path(path, registry, variable=variable, wavelengths_nm=bands)
    if json_:
        as_json(found)
        return
    warnings = found.pop("warnings", [])
    facts(found)
    for line in warnings:
        typer.echo(f"! {line}")


def _is_recipe(text: str) -> bool:
    """A .toml file, or no file at all but the name of an installed recipe."""
    from gen_core.errors import RecipeError
    from gen_core.recipe import resolve_recipe_path

    if Path(text).expanduser().exists():
        return text.endswith(".toml")
    try:
        resolve_recipe_path(text)
    except RecipeError:
        return text.endswith(".toml")  # then it is told which recipe is meant
    return True


def _dataset(recipe_name: str, overrides: list[str], registry: Any) -> dict[str, Any]:
    """Spec, splits and the range of the first training volume, in physical units."""
    from gen_core.dataset import DatasetContext
    from gen_core.inspect import statistics
    from gen_core.recipe import load_recipe, resolve_recipe_path

    recipe = load_recipe(resolve_recipe_path(recipe_name), overrides, registry)
    table = recipe.table("dataset")
    context = DatasetContext(
        volume=recipe.volume, split=recipe.split, seed=recipe.run.seed, cache=Path("runs") / ".cache"
    )
    data = table.component.build(table.options, context)
    prepared = data.prepare()
    spec, train = data.spec, data.split("train")
    found: dict[str, Any] = {
        "recipe": str(recipe.path),
        "dataset": table.use,
        "shape": list(spec.shape),
        "axes": "czyx" if spec.depth == "slices" else "cbyx",
        "depth": spec.depth,
        "channels": list(spec.channels),
        "wavelength_nm": list(spec.wavelength_nm) if spec.wavelength_nm else None,
        "units": spec.units,
        "masks": list(spec.masks),
        "splits": {name: len(data.split(name)) for name in ("train", "val", "test")},
    }
    if len(train):
        sample = train[0]
        found["first"] = sample.id
        found |= statistics(sample.scale.to_physical(sample.x))
    return {**found, "warnings": list(prepared.get("notes", []))}
