"""Recipes: TOML read, merged, checked and resolved into components with their settings."""

from gen_core.recipe.layers import find_recipes, recipe_folders, resolve_recipe_path
from gen_core.recipe.resolve import CORE, KIND_OF, Recipe, Table, load_recipe
from gen_core.recipe.schema import json_schema
from gen_core.recipe.structure import plain, read_options
from gen_core.recipe.write import to_toml

__all__ = [
    "CORE",
    "KIND_OF",
    "Recipe",
    "Table",
    "find_recipes",
    "json_schema",
    "load_recipe",
    "plain",
    "read_options",
    "recipe_folders",
    "resolve_recipe_path",
    "to_toml",
]
