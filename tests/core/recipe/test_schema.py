"""The JSON schema, judged by an independent validator."""

from __future__ import annotations

import pytest
import tomli

from gen_core.recipe import find_recipes, json_schema
from gen_core.registry import Registry

jsonschema = pytest.importorskip("jsonschema")

WHOLE = """\
gen = 1
base = "other.toml"
name = "x"
[volume]
size = [3, 4, 5]
[dataset]
use = "phantom"
noise = 0.5
[codec]
use = "vqgan"
init = "runs/x"
stride = [4, 4, 2]
norm = "batch"
inner = { a = 3 }
[codec.fit]
batch = 1
betas = [0.5, 0.9]
[sampler]
use = "dpm++2m"
steps = 3
[features.codec]
use = "codec"
[segmenter]
use = "logistic"
[metrics.psnr]
steps = 3
[metrics.distance]
use = "fid"
n = 3
[metrics.fid]
off = true
[report]
steps = 1
[prior]
off = true
"""


def wrong(registry, text):
    schema = json_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    return list(jsonschema.Draft202012Validator(schema).iter_errors(tomli.loads(text)))


def test_a_right_recipe_is_right(registry):
    assert wrong(registry, WHOLE) == []


def test_one_table_or_several_of_features_or_none(registry):
    for text in (
        'use = "conv"\nsteps = 1',
        "off = true",
        '[features.a]\nuse = "conv"\n[features.b]\noff = true',
    ):
        assert wrong(registry, f"gen = 1\n[features]\n{text}") == []


def test_a_partial_recipe_on_a_base_is_right(registry):
    assert wrong(registry, 'gen = 1\nbase = "b"\n[codec]\nanything = 3\n[codec.fit]\nbatch = 3') == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gen = 1", "gen = 2"),
        ("gen = 1", ""),
        ('name = "x"', "name = 3"),
        ('name = "x"', "nam = 3"),
        ("size = [3, 4, 5]", "size = [3, 4]"),
        ("size = [3, 4, 5]", 'size = [3, 4, "x"]'),
        ('use = "phantom"', 'use = "phantm"'),
        ("noise = 0.5", "nois = 0.5"),
        ("noise = 0.5", "root = '/data'"),  # a setting of the other data set
        ('norm = "batch"', 'norm = "none"'),
        ("inner = { a = 3 }", "inner = { z = 3 }"),
        ("batch = 1", "batch = 0"),
        ("batch = 1", "bach = 1"),
        ("betas = [0.5, 0.9]", "betas = 0.5"),
        ("[metrics.psnr]\nsteps = 3", "[metrics.psnr]\nstps = 3"),
        ("n = 3", "steps = 3"),
        ("off = true", "off = 1"),
        ("[report]\nsteps = 1", "[report]\nstep = 1"),
        ('[features.codec]\nuse = "codec"', '[features]\nuse = "codc"'),
        ('[features.codec]\nuse = "codec"', '[features]\nuse = "codec"\nx = 1'),
    ],
)
def test_a_wrong_recipe_is_wrong(registry, old, new):
    assert old in WHOLE
    assert wrong(registry, WHOLE.replace(old, new, 1)) != []


def test_defaults_bounds_and_summaries_are_there(registry):
    schema = json_schema(registry)
    codec = schema["$defs"]["codec.vqgan"]
    assert codec["description"] == "A codec."
    assert codec["properties"]["kernel"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "maximum": 7,
        "default": 3,
    }
    assert codec["properties"]["norm"] == {"enum": ["group", "batch", "instance"], "default": "group"}
    assert codec["properties"]["fit"]["default"]["steps"] == 77
    assert schema["properties"]["split"]["properties"]["val"] == {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.25,
    }


def test_every_recipe_of_the_house_fits_the_schema_of_the_house():
    schema = json_schema(Registry.load(allow="off"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in find_recipes():
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(tomli.loads(path.read_text())))
        assert errors == [], f"{path.name}: {[e.message for e in errors]}"
