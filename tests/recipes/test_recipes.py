"""Every recipe resolves; the published ones have the published numbers and plan without data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_core.recipe import Recipe, load_recipe
from gen_core.registry import Registry
from gen_core.run.api import RunRequest, plan
from gen_core.run.smoke import smoke_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FILES = sorted(RECIPES.rglob("*.toml"))


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recipe_resolves_and_its_lock_loads_back_equal(path, registry, tmp_path):
    recipe = load_recipe(path, registry=registry)
    assert recipe.doc, "a recipe opens with what it makes, what it needs, the command"
    assert "gen run" in recipe.doc
    assert Recipe.from_dict(recipe.to_dict(), registry).to_dict() == recipe.to_dict()
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text(recipe.to_toml())
    assert load_recipe(lock, registry=registry).to_dict() == recipe.to_dict()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_smoke_form_of_a_recipe_is_a_recipe(path, registry):
    small = smoke_recipe(load_recipe(path, registry=registry))
    assert Recipe.from_dict(small.to_dict(), registry).to_dict() == small.to_dict()
    for table in small.tables.values():
        if hasattr(table.options, "fit"):
            assert table.options.fit.steps == 2


@pytest.mark.parametrize("name", ["hyperspectral_224", "hyperspectral_672"])
def test_the_published_numbers_are_settings_with_those_values(name, registry):
    recipe = load_recipe(RECIPES / f"{name}.toml", registry=registry)
    codec, prior = recipe.table("codec").options, recipe.table("prior").options
    assert tuple(codec.stride) == (8, 8, 8)
    assert (codec.latent_channels, codec.codes, codec.width) == (8, 1024, 16)
    assert (codec.codebook.decay, codec.codebook.kmeans_every) == (0.99, 1)
    assert (codec.losses.l1, codec.losses.lpips, codec.losses.commitment) == (4.0, 4.0, 0.25)
    assert (codec.losses.gan_2d, codec.losses.gan_3d, codec.losses.feature_matching) == (1.0, 1.0, 4.0)
    assert codec.latent_scaling == "codebook-minmax" and codec.requantize
    assert (prior.base, tuple(prior.multipliers), prior.steps) == (512, (1, 2, 4), 300)
    assert (prior.schedule, prior.s, prior.clip, prior.predict, prior.loss) == ("cosine", 0.008, 0.9999, "eps", "l1")
    assert (prior.fit.lr, prior.fit.ema, prior.fit.ema_every, prior.fit.ema_start) == (1e-4, 0.995, 10, 2000)
    assert (recipe.table("sampler").use, recipe.sample.steps) == ("ddpm", 300)
    if name.endswith("672"):
        assert codec.discriminator.norm == "instance" and codec.fit.batch == 1
        assert recipe.table("codec").init and recipe.table("prior").init
    else:
        assert codec.discriminator.norm == "batch" and codec.fit.batch == 10


def test_the_dry_run_of_672_names_shapes_parameters_memory_and_what_is_missing(tmp_path):
    found = plan(RunRequest(RECIPES / "hyperspectral_672.toml", out=tmp_path / "run"))
    assert found["shapes"] == ["source (1, 91, 1288, 1288)", "volume (1, 16, 672, 672)", "latent (8, 2, 84, 84)"]
    assert found["parameters"]["prior"] == pytest.approx(562.7e6, rel=0.01)
    assert found["memory_gib"]["fit.codec"] > 1
    assert any("dataset.root" in line and "retina-phantom" in line for line in found["missing"])
    assert any("hyperspectral-224" in line for line in found["missing"])
    assert not (tmp_path / "run").exists(), "a dry run writes nothing"
    steps = [row["step"] for row in found["steps"]]
    fits = ["prepare", "fit.codec", "encode", "fit.prior", "sample", "fit.features.moco"]
    assert steps == [*fits, "evaluate", "report"]
    assert found["parameters"]["features.moco"] == pytest.approx(27.8e6, rel=0.05)  # a ResNet-50 and its head
    assert found["memory_gib"]["fit.features.moco"] > 1


def test_the_dry_run_tells_what_of_a_fit_several_processes_would_divide(tmp_path):
    request = RunRequest(RECIPES / "hyperspectral_672.toml", ("prior.fit.shard=true",), tmp_path / "run")
    found = plan(request)
    note = next(note for note in found["notes"] if "shard" in note)
    states = found["parameters"]["prior"] * 4 * 5 / 2**30  # weights, gradients, two moments and their average
    assert f"of {found['memory_gib']['fit.prior']:.2f} GiB, {states:.2f} (weights" in note
