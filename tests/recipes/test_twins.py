"""The twins on phantoms: they differ from their full recipes in sizes and budgets alone, and run to their end."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from gen_core.recipe import load_recipe
from gen_core.registry import Registry

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# the cascade grows out of two other runs, whose folders it names
TWINS = sorted(path for path in RECIPES.glob("*_phantom.toml") if path.stem != "lung_ct_cascade_phantom")
SYSTEMS = ("lidc_ddpmpp", "lidc_stylegan2_ada", "brain_mri_vae", "brain_mri_gan", "brain_mri_anomaly")


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_twin_is_made_of_the_same_parts_as_its_full_recipe(name, registry):
    full, twin = (load_recipe(RECIPES / f"{n}.toml", registry=registry) for n in (name, f"{name}_phantom"))
    parts = lambda recipe: {key: table.use for key, table in recipe.tables.items() if key != "dataset"}
    assert parts(twin) == parts(full)
    assert set(twin.conditions) == set(full.conditions)
    assert twin.run.demonstration and not full.run.demonstration
    for key in ("path", "predict", "select"):
        asked = [getattr(r.table("prior").options, key, None) for r in (full, twin)]
        assert asked[0] == asked[1], key


@pytest.mark.slow
@pytest.mark.parametrize("path", TWINS, ids=lambda p: p.stem)
def test_a_twin_runs_to_its_end(path, tmp_path):
    """Ten minutes to an hour each on two cores."""
    out = tmp_path / path.stem
    asked = [sys.executable, "-m", "gen_cli", "run", str(path), "--out", str(out)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=RECIPES.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (out / "report.html").stat().st_size > 10_000
    results = json.loads((out / "metrics.json").read_text())["results"]
    scores = [value for result in results.values() for value in result["values"]]
    assert scores and all(math.isfinite(score["value"]) for score in scores)
    assert any(score["source"] == "synthetic" for score in scores)
