"""What the plugin offers, and how a recipe names it."""

from __future__ import annotations

import pytest

from gen_core.errors import RecipeError
from gen_core.recipe import load_recipe
from gen_core.registry import Registry

TABLES = """
gen = 1
name = "small"
[dataset]
use = "retina-phantom"
[trackers.csv]
[trackers.tensorboard]
[trackers.wandb]
project = "retina"
[trackers.mlflow]
[trackers.mirror]
use = "csv"
"""


def test_a_recipe_names_them_by_their_tables(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TABLES)
    tables = load_recipe(path, (), Registry.load("off")).tables_of("tracker")
    assert [(t.name, t.use) for t in tables] == [
        ("trackers.csv", "csv"),
        ("trackers.tensorboard", "tensorboard"),
        ("trackers.wandb", "wandb"),
        ("trackers.mlflow", "mlflow"),
        ("trackers.mirror", "csv"),
    ]
    assert tables[2].options.project == "retina" and tables[3].options.uri == ""


def test_a_wrong_setting_is_found_in_the_recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TABLES.replace('project = "retina"', 'projct = "retina"'))
    with pytest.raises(RecipeError, match="trackers.wandb.*projct.*did you mean 'project'"):
        load_recipe(path, (), Registry.load("off"))
