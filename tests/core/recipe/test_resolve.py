"""Recipes resolved: components, defaults, links between tables, every mistake at once, and the locked recipe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gen_core.errors import MissingError, RecipeError
from gen_core.recipe import Recipe, find_recipes, load_recipe
from gen_core.registry import Registry

WHOLE = """\
# What it makes.
#
# The second paragraph.

# not part of it
gen = 1
name = "whole"
seed = 5
[volume]
size = [3, 4, 5]
[dataset]
use = "cubes"
[codec]
use = "vqgan"
from = "runs/other"
stride = [4, 4, 2]
inner.a = 9
scales = { "a b" = 1, c = 0.5 }
[codec.fit]
batch = 1
groups = { discriminator = { lr = 1e-4 } }
[prior]
use = "ddpm3d"
init = "runs/first"
[sampler]
use = "dpm++2m"
[features.codec]
use = "codec"
[features.conv]
use = "conv"
[segmenter]
use = "logistic"
[metrics.psnr]
[metrics.distance]
use = "fid"
features = "features.conv"
segmenter = "segmenter"
[report]
[trackers.board]
"""


def test_tables_become_components_with_their_settings(load):
    recipe = load(WHOLE)
    assert list(recipe.tables) == [
        "dataset",
        "codec",
        "prior",
        "sampler",
        "features.codec",
        "features.conv",
        "segmenter",
        "metrics.psnr",
        "metrics.distance",
        "report",
        "trackers.board",
    ]
    codec = recipe.table("codec")
    assert (codec.kind, codec.use, codec.component.version) == ("codec", "vqgan", 2)
    assert codec.from_ == "runs/other" and codec.init is None and recipe.table("prior").init == "runs/first"
    assert codec.options.stride == (4, 4, 2) and codec.options.kernel == 3
    assert recipe.table("metrics.psnr").use == "psnr" and recipe.table("report").use == "html"
    assert [t.name for t in recipe.tables_of("metric")] == ["metrics.psnr", "metrics.distance"]
    assert recipe.run.seed == 5 and recipe.volume.size == (3, 4, 5) and recipe.split.val == 0.25
    assert recipe.doc == "What it makes.\n\nThe second paragraph."


def test_nested_tables_keep_the_components_own_defaults(load):
    codec = load(WHOLE).table("codec").options
    assert (codec.fit.steps, codec.fit.betas, codec.fit.batch) == (77, (0.5, 0.9), 1)
    assert (codec.inner.a, codec.inner.b) == (9, 5.0)


def test_a_recipe_without_a_name_is_called_like_its_file(load):
    assert load("gen = 1").run.name == "r"


def test_a_metric_can_be_switched_off(load):
    assert "metrics.psnr" not in load(WHOLE, "metrics.psnr.off=true").tables
    assert "metrics.psnr" in load(WHOLE, "metrics.psnr.off=false").tables


def test_any_component_can_be_switched_off_and_one_switch_ends_all_named_ones(load):
    tables = load(
        WHOLE, "metrics.distance.off=true", "segmenter.off=true", "features.off=true", "prior.off=true"
    ).tables
    assert list(tables) == ["dataset", "codec", "sampler", "metrics.psnr", "report", "trackers.board"]
    assert list(load("gen = 1\n[segmenter]\noff = true").tables) == []


def test_a_metric_whose_network_is_switched_off_is_a_mistake(problems):
    assert "[metrics.distance] segmenter" in problems(WHOLE, "segmenter.off=true")[0]


def test_all_mistakes_come_at_once_each_with_file_line_key_and_nearest_name(problems):
    text = """\
gen = 1
[volume]
size = [3, 4]
[codec]
use = "vqgan"
kernl = 3
kernel = 9
stride = 8
[codec.fit]
batch = 0
stpes = 3
[prior]
use = "ddpm3"
[smaple]
n = 3
[sampler]
[metrics.fid]
features = "features.codc"
[features.codec]
use = "codec"
"""
    assert problems(text) == [
        "r.toml:3: [volume] size = [3, 4]: expected a list of 3 integers, got 2",
        "r.toml:6: [codec] kernl = 3: no such setting; did you mean 'kernel'?",
        "r.toml:7: [codec] kernel = 9: must be <= 7",
        "r.toml:8: [codec] stride = 8: expected a list of 3 integers",
        "r.toml:10: [codec.fit] batch = 0: must be > 0",
        "r.toml:11: [codec.fit] stpes = 3: no such setting; did you mean 'steps'?",
        "r.toml:13: [prior] use = \"ddpm3\": no prior 'ddpm3'; installed: ddpm3d; did you mean 'ddpm3d'?",
        "r.toml:14: [smaple]: no such table; did you mean 'sample'?",
        "r.toml:16: [sampler] use: missing; installed: ddim, dpm++2m",
        'r.toml:18: [metrics.fid] features = "features.codc": no such features table; the recipe has '
        "features.codec; did you mean 'features.codec'?",
    ]


def test_an_inherited_mistake_names_the_base_and_an_override_names_itself(write, registry):
    write("base.toml", 'gen = 1\n[codec]\nuse = "vqgan"\nwdith = 3\n[codec.fit]\nsteps = 0')
    path = write("r.toml", 'gen = 1\nbase = "base.toml"\n[codec.fit]\nbatch = "x"')
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["codec.norm=grup", "encode.vews=3"], registry)
    assert caught.value.problems == [
        '--set codec.norm: [codec] norm = "grup": expected one of "group", "batch", "instance"; did you mean '
        "'group'?",
        "--set encode.vews: [encode] vews = 3: no such setting; did you mean 'views'?",
        "base.toml:4: [codec] wdith = 3: no such setting; did you mean 'width'?",
        "base.toml:6: [codec.fit] steps = 0: must be > 0",
        'r.toml:4: [codec.fit] batch = "x": expected an integer',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codec = 3", "r.toml:2: codec = 3: expected"),
        ("volume = 3", "r.toml:2: volume = 3: expected a table [volume]"),
        ("metrics = 3", "r.toml:2: metrics = 3: expected a table [metrics] or [metrics.NAME]"),
        (
            "[features]\nx = 3",
            "r.toml:3: [features] x = 3: expected a table [features.x] (or `use` in [features])",
        ),
        ("[codec]\nuse = 3", "r.toml:3: [codec] use = 3: expected the name of a codec"),
        ('[metrics."a.b"]\nuse = "psnr"', "a table's name holds no dot"),
        ("[metrics.psnr]\noff = 1", "r.toml:3: [metrics.psnr] off = 1: expected true or false"),
        ('[codec]\nuse = "identity"\nfrom = "x"', 'r.toml:4: [codec] from = "x": no such setting'),
        ('[codec]\nuse = "vqgan"\nfrom = 1', "r.toml:4: [codec] from = 1: expected the folder of a run"),
        ('[codec]\nuse = "vqgan"\nfrom = "a"\ninit = "b"', 'r.toml:5: [codec] init = "b": `from` takes'),
        ('[codec]\nuse = "needs"', "r.toml:2: [codec] weights: missing; expected text"),
        (
            '[codec]\nuse = "vqgan"\n[codec.fit]\naccumulate = 3\nbatch = 8',
            "r.toml:5: [codec.fit] accumulate = 3: does not divide batch = 8",
        ),
        (
            '[sample]\nformat = "npi"',
            "r.toml:3: [sample] format = \"npi\": no writer 'npi'; installed: envi, npy; did you mean 'npy'?",
        ),
        ("seed = true", "r.toml:2: seed = true: expected an integer"),
        ("sede = 1", "r.toml:2: sede = 1: no such setting; did you mean 'seed'?"),
        (
            "[metrics.fid]",
            'r.toml:2: [metrics.fid] features = "features": no such features table; the recipe has none',
        ),
        ('[metrics.fid]\nfeatures = "codec"\n[codec]\nuse = "vqgan"', "no such features table"),
        (
            '[codec]\nuse = "needs"\nweights = "w"\nlow = 5\nhigh = 3',
            "r.toml:6: [codec] high = 3: must be above low = 5",
        ),
    ],
)
def test_each_mistake_is_told(problems, text, message):
    assert message in "\n".join(problems("gen = 1\n" + text))


def test_a_mistake_in_one_table_does_not_hide_a_reference_to_it(problems):
    text = 'gen = 1\n[features]\nuse = "conv"\nstpes = 1\n[metrics.fid]'
    assert problems(text) == ["r.toml:4: [features] stpes = 1: no such setting; did you mean 'steps'?"]


def test_an_unknown_table_name_is_told_with_those_there_are(load):
    with pytest.raises(RecipeError, match=r"has no \[codecs\]; it has dataset, codec, .*did you mean 'codec'"):
        load(WHOLE).table("codecs")


def test_a_component_that_cannot_be_imported_is_missing_not_wrong(load, registry):
    import attrs

    ((component,),) = [registry.components["codec", "vqgan"]]
    registry.components["codec", "vqgan"] = [attrs.evolve(component, options="absent_module:X")]
    with pytest.raises(MissingError, match="absent_module"):
        load(WHOLE)
    with pytest.raises(RecipeError) as caught:  # mistakes come first: they need no installation
        load(WHOLE, "seed=x")
    assert len(caught.value.problems) == 1


def test_the_dict_is_json_with_every_default_and_gives_the_same_recipe(load, registry):
    recipe = load(WHOLE)
    data = recipe.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["codec"]["fit"]["ema"] == 0.0 and data["encode"]["views"] == 1
    assert data["features"]["conv"] == {"use": "conv", "steps": 25}
    again = Recipe.from_dict(data, registry)
    assert again.to_dict() == data and list(again.tables) == list(recipe.tables)
    assert again.table("codec") == recipe.table("codec")


def test_the_locked_recipe_loads_back_equal(load, write, registry):
    recipe = load(WHOLE)
    again = load_recipe(write("recipe.lock.toml", recipe.to_toml()), (), registry)
    assert again.to_dict() == recipe.to_dict() and again.tables == recipe.tables
    assert again.doc == recipe.doc and again.to_toml() == recipe.to_toml()


def test_a_wrong_dict_is_refused_too(load, registry):
    data = load(WHOLE).to_dict()
    data["codec"]["kernel"] = 99
    with pytest.raises(RecipeError, match=r"recipe: \[codec\] kernel = 99: must be <= 7"):
        Recipe.from_dict(data, registry)


def test_a_recipe_resolves_without_torch():
    code = (
        "import sys; from gen_core.recipe import load_recipe, find_recipes\n"
        "from gen_core.errors import GenError\n"
        "for path in find_recipes():\n"
        "    try: load_recipe(path).to_toml()\n"
        "    except GenError as error: pass\n"
        "print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("path", find_recipes(), ids=lambda p: p.stem)
def test_every_recipe_of_the_house_resolves_and_locks(path, tmp_path):
    registry = Registry.load(allow="off")
    recipe = load_recipe(path, (), registry)
    assert recipe.doc, f"{path.name} opens with a comment that says what it makes"
    lock = tmp_path / "recipe.lock.toml"
    lock.write_text(recipe.to_toml())
    assert load_recipe(lock, (), registry).to_dict() == recipe.to_dict()
