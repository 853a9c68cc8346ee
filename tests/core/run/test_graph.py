"""The order of the supporting fits: what is used comes first, what learns from samples waits for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve, field, frozen

from gen_core.errors import RecipeError
from gen_core.options import FitOptions, RejectOptions, table_ref, train_on
from gen_core.recipe import load_recipe
from gen_core.recipe.resolve import Table
from gen_core.run.graph import build_graph

COMPONENT = SimpleNamespace(version=1)


@frozen
class Network:
    train_on: str = train_on()
    backbone: str = table_ref("features")
    fit: FitOptions = FitOptions()


@frozen
class Judge:
    features: tuple[str, ...] = field(default=(), metadata={"table": "features"})


def recipe_with(tables, by=()):
    """The tiny recipe with these supporting tables instead of its own: name -> options."""
    recipe = load_recipe(Path(__file__).parents[3] / "recipes" / "tiny.toml")
    kept = {n: t for n, t in recipe.tables.items() if t.kind not in ("features", "segmenter", "metric")}
    kind = lambda name: "metric" if name.startswith("metrics") else "features"
    made = {n: Table(n, kind(n), "made-up", options, COMPONENT) for n, options in tables.items()}
    return evolve(recipe, tables=kept | made, evaluate=evolve(recipe.evaluate, reject=RejectOptions(by)))


def steps_of(recipe):
    return {s.name: s.upstream for s in build_graph(recipe, {})}


def test_a_network_is_fitted_after_the_one_it_uses():
    steps = steps_of(recipe_with({"features.probe": Network(backbone="features.moco"), "features.moco": Network()}))
    assert list(steps).index("fit.features.moco") < list(steps).index("fit.features.probe")
    assert steps["fit.features.probe"] == ("prepare", "fit.features.moco")


def test_a_network_that_learns_from_samples_waits_and_so_does_what_uses_it():
    steps = steps_of(
        recipe_with({"features.a": Network(train_on="both"), "features.b": Network(backbone="features.a")})
    )
    assert steps["fit.features.a"] == ("prepare", "sample")
    assert steps["fit.features.b"] == ("prepare", "sample", "fit.features.a")


def test_samples_are_judged_before_a_network_learns_from_them():
    tables = {
        "features.early": Network(),
        "features.late": Network(train_on="synthetic"),
        "metrics.judge": Judge(("features.early",)),
    }
    steps = steps_of(recipe_with(tables, by=("metrics.judge",)))
    assert steps["reject"] == ("prepare", "encode", "sample", "fit.features.early")
    assert steps["fit.features.late"] == ("prepare", "sample", "reject")
    assert "reject" in steps["evaluate"]


def test_a_judge_must_not_use_what_learns_from_samples():
    tables = {"features.late": Network(train_on="both"), "metrics.judge": Judge(("features.late",))}
    with pytest.raises(RecipeError, match=r"a judge uses \[features.late\]"):
        steps_of(recipe_with(tables, by=("metrics.judge",)))


def test_a_network_that_uses_itself_is_refused():
    tables = {"features.a": Network(backbone="features.b"), "features.b": Network(backbone="features.a")}
    with pytest.raises(RecipeError, match="uses itself: features.a -> features.b -> features.a"):
        steps_of(recipe_with(tables))


def test_learning_from_samples_needs_samples():
    recipe = recipe_with({"features.a": Network(train_on="both")})
    without = evolve(recipe, tables={n: t for n, t in recipe.tables.items() if n not in ("prior", "sampler")})
    with pytest.raises(RecipeError, match="draws no samples"):
        steps_of(without)
