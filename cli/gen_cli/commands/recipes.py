"""`gen recipes`: the installed recipes, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Json, Set
from gen_cli.show import as_json, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Recipes: list, show, check, schema.")


@app.command("list")
def list_(json_: Json = False, debug: Debug = False) -> None:
    """The installed recipes and what each makes."""
    from gen_core.recipe import find_recipes

    rows = [{"recipe": path.stem, "about": about(path), "file": str(path)} for path in find_recipes()]
    as_json(rows) if json_ else table(rows, ["recipe", "about"], "no recipes installed")


def about(path: Path) -> str:
    """The first sentence of the comment that a recipe opens with."""
    words = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or not text:
            break
        words.append(text)
    paragraph = " ".join(words)
    head, stop, _ = paragraph.partition(". ")
    return head + "." if stop else paragraph


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of an installed recipe.")],
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With bases merged and every default written out.")
    ] = False,
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Print a recipe as written, or with every setting known (--resolved, --json)."""
    from gen_core.recipe import load_recipe, resolve_recipe_path

    path = resolve_recipe_path(recipe)
    if json_:
        as_json(load_recipe(path, set_ or []).to_dict())
    elif resolved or set_:
        typer.echo(load_recipe(path, set_ or []).to_toml(), nl=False)
    else:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)


@app.command()
def validate(
    recipes: Annotated[list[str], typer.Argument(help="Recipe files or names of installed recipes.")],
    set_: Set = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Check recipes: every mistake of all of them, each with file, line, key and the nearest valid name."""
    from gen_core.errors import GenError
    from gen_core.recipe import load_recipe, resolve_recipe_path
    from gen_core.registry import Registry

    registry, rows, code = Registry.load(), [], 0
    for name in recipes:
        try:
            path = resolve_recipe_path(name)
            load_recipe(path, set_ or [], registry)
            rows.append({"recipe": str(path), "valid": True, "problems": []})
        except GenError as error:
            problems = getattr(error, "problems", [str(error)])
            rows.append({"recipe": name, "valid": False, "problems": problems})
            code = code or error.exit_code
    if json_:
        as_json(rows)
    for row in rows:
        if row["valid"] and not json_:
            typer.echo(f"{row['recipe']}: valid")
        for line in row["problems"]:
            typer.echo(line, err=True)
    if code:
        raise typer.Exit(code)


@app.command()
def schema(debug: Debug = False, json_: Json = False) -> None:
    """The JSON schema of recipes, for editors: gen recipes schema > recipe.schema.json"""
    from gen_core.recipe import json_schema
    from gen_core.registry import Registry

    as_json(json_schema(Registry.load()))
