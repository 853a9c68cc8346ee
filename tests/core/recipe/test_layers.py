"""Bases, merging and overrides."""

from __future__ import annotations

import pytest

from gen_core.errors import RecipeError
from gen_core.recipe import find_recipes, resolve_recipe_path
from gen_core.recipe.layers import read_layers

BASE = """\
gen = 1
name = "base"
seed = 3
[volume]
size = [3, 4, 5]
[split]
val = 0.1
[dataset]
use = "cubes"
root = "/data"
[codec]
use = "vqgan"
stride = [4, 4, 4]
[codec.fit]
steps = 5
batch = 2
[features]
use = "conv"
[metrics.psnr]
[metrics.fid]
n = 3
[report]
steps = 4
"""


def merge(write, text, *overrides, base=BASE):
    write("base.toml", base)
    return read_layers(write("r.toml", f'gen = 1\nbase = "base.toml"\n{text}'), overrides).data


def test_tables_merge_and_lists_replace(write):
    data = merge(write, "[codec]\nstride = [2, 2, 2]\n[codec.fit]\nbatch = 1")
    assert data["codec"] == {"use": "vqgan", "stride": [2, 2, 2], "fit": {"steps": 5, "batch": 1}}
    assert data["seed"] == 3 and "base" not in data and "gen" not in data


def test_a_changed_use_replaces_its_table_and_keeps_volume_and_split(write):
    data = merge(write, '[dataset]\nuse = "phantom"\nnoise = 0.5')
    assert data["dataset"] == {"use": "phantom", "noise": 0.5}
    assert data["volume"] == {"size": [3, 4, 5]} and data["split"] == {"val": 0.1}


def test_an_equal_use_keeps_the_table(write):
    assert merge(write, '[dataset]\nuse = "cubes"')["dataset"]["root"] == "/data"


def test_the_default_use_of_metrics_and_report_counts_as_use(write):
    data = merge(write, '[metrics.fid]\nuse = "psnr"\n[report]\nuse = "pdf"')
    assert data["metrics"]["fid"] == {"use": "psnr"} and data["report"] == {"use": "pdf"}
    data = merge(write, '[metrics.fid]\nuse = "fid"\n[report]\nuse = "html"')
    assert data["metrics"]["fid"] == {"n": 3, "use": "fid"} and data["report"] == {"steps": 4, "use": "html"}


def test_one_feature_network_and_named_ones_replace_each_other(write):
    data = merge(write, '[features.codec]\nuse = "codec"')
    assert data["features"] == {"codec": {"use": "codec"}}
    named = '[features.a]\nuse = "conv"\n'
    data = merge(write, '[features]\nuse = "codec"', base="gen = 1\n" + named)
    assert data["features"] == {"use": "codec"}
    data = merge(write, '[features.b]\nuse = "codec"', base="gen = 1\n" + named)
    assert list(data["features"]) == ["a", "b"]


def test_a_base_is_found_beside_the_file_and_chains(write, monkeypatch, tmp_path):
    write("deep/one.toml", "gen = 1\nseed = 1\nname = 'one'")
    write("deep/two.toml", "gen = 1\nbase = 'one.toml'\nname = 'two'")
    path = write("three.toml", "gen = 1\nbase = 'deep/two.toml'\ndevice = 'cpu'")
    merged = read_layers(path)
    assert merged.data == {"seed": 1, "name": "two", "device": "cpu"}
    assert [f.shown for f in merged.files] == ["three.toml", "deep/two.toml", "deep/one.toml"]
    assert merged.place(("seed",)) == "deep/one.toml:2"


def test_a_circle_of_bases_is_refused(write):
    write("a.toml", "gen = 1\nbase = 'b.toml'")
    path = write("b.toml", "gen = 1\nbase = 'a.toml'")
    with pytest.raises(RecipeError, match=r"a.toml:2: base = \"b.toml\": goes round in a circle"):
        read_layers(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gen = 1\nbase = 3", "r.toml:2: base = 3: expected the path or the name of a recipe"),
        ("gen = 1\nbase = 'quickstrt'", "no recipe 'quickstrt'; installed: .*did you mean 'quickstart'"),
        ("seed = 1", "r.toml: gen: missing; a recipe starts with `gen = 1`"),
        ("\ngen = 2", "r.toml:2: gen = 2: expected 1"),
        ("gen = true", "r.toml:1: gen = True: expected 1"),
        ("gen = 1\nseed = = 2", r"r.toml:2:8: not valid TOML: Invalid value"),
        ("gen = 1\n[codec]\n[codec]", r"r.toml:3:\d+: not valid TOML: Cannot declare"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_place(write, text, message):
    with pytest.raises(RecipeError, match=message):
        read_layers(write("r.toml", text))


def test_unreadable_files_are_refused(write, tmp_path):
    with pytest.raises(RecipeError, match="absent.toml: cannot be read"):
        read_layers(tmp_path / "absent.toml")
    (tmp_path / "x.toml").write_bytes(b"gen = 1\nname = '\xff'")
    with pytest.raises(RecipeError, match="x.toml: is not UTF-8"):
        read_layers(tmp_path / "x.toml")


def test_a_windows_file_with_a_byte_order_mark_reads_the_same(write, tmp_path):
    (tmp_path / "w.toml").write_bytes(b"\xef\xbb\xbfgen = 1\r\n[codec]\r\nuse = 'x'\r\n")
    merged = read_layers(tmp_path / "w.toml")
    assert merged.data == {"codec": {"use": "x"}} and merged.place(("codec", "use")) == "w.toml:3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('["a"]', ["a"]),
        ('"3"', "3"),
        ("/data/cubes", "/data/cubes"),
        ("dpm++2m", "dpm++2m"),
        ("2024-01-01", "2024-01-01"),
        ("", ""),
        ("a=b", "a=b"),
        ("1\nseed = 2", "1\nseed = 2"),
    ],
)
def test_the_value_of_an_override_is_toml_or_else_text(write, text, value):
    assert merge(write, "", f"dataset.root={text}")["dataset"]["root"] == value


def test_overrides_come_after_the_bases_and_the_last_one_wins(write):
    data = merge(write, "[codec.fit]\nsteps = 6", "codec.fit.steps=7", "codec.fit.steps=8", "volume.new.deep=1")
    assert data["codec"]["fit"] == {"steps": 8, "batch": 2}
    assert data["volume"]["new"] == {"deep": 1}


@pytest.mark.parametrize("order", [1, -1])
def test_an_overridden_use_replaces_the_table_and_other_overrides_stay(write, order):
    overrides = ["dataset.use=phantom", "dataset.subjects=40"][::order]
    assert merge(write, "", *overrides)["dataset"] == {"use": "phantom", "subjects": 40}


def test_wrong_overrides_are_all_named(write):
    with pytest.raises(RecipeError) as caught:
        merge(write, "", "codec", "=3", "a b=1", "gen=2", "base=x", "seed=1", "seed.x=1")
    assert [p.partition(": ")[0] for p in caught.value.problems] == [
        "--set codec",
        "--set =3",
        "--set a b=1",
        "--set gen",
        "--set base",
        "--set seed.x",
    ]


def test_installed_recipes_are_found_by_name_and_path(write):
    names = [p.name for p in find_recipes()]
    assert "quickstart.toml" in names and len(names) == len(set(find_recipes()))
    for name in ("quickstart", "quickstart.toml", "recipes/quickstart.toml"):
        assert resolve_recipe_path(name).name == "quickstart.toml"
    own = write("quickstart.toml", "gen = 1")
    assert resolve_recipe_path("quickstart.toml").resolve() == own
    with pytest.raises(RecipeError, match="no recipe 'nope'; installed: "):
        resolve_recipe_path("nope")
