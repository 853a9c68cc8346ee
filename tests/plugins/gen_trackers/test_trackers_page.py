"""What docs/trackers.md shows works."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import tomli

from gen_core.recipe import load_recipe
from gen_core.registry import Registry
from gen_core.testing import check_tracker

ROOT = Path(__file__).resolve().parents[3]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "trackers.md").read_text(), re.DOTALL)


def test_the_tables_are_those_of_a_recipe(tmp_path):
    (tables,) = (text for kind, text in BLOCKS if kind == "toml")
    assert len(tomli.loads(tables)["trackers"]) == 4
    path = tmp_path / "small.toml"
    path.write_text('gen = 1\n[dataset]\nuse = "retina-phantom"\n' + tables.replace("# uri", "uri"))
    recipe = load_recipe(path, (), Registry.load("off"))
    assert recipe.table("trackers.mlflow").options.uri == "http://127.0.0.1:5000"


def test_the_tracker_of_the_page_keeps_the_contract(tmp_path):
    (text,) = (text for kind, text in BLOCKS if kind == "python")
    path = tmp_path / "lines.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("lines_of_the_page", path)
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    (tmp_path / "run").mkdir()
    check_tracker(lambda: page.LinesTracker(page.Lines(only="train"), None), tmp_path / "run")
    assert (tmp_path / "run" / "own" / "lines.txt").read_text() == "done"
