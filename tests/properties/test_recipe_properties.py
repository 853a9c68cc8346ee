"""Laws of recipes: written and read again they are the same, mistakes name their place, layers merge by their rules."""

import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_core.errors import RecipeError
from gen_core.recipe import load_recipe, to_toml
from gen_core.recipe.layers import Merged, _keys
from gen_core.recipe.places import key_lines
from gen_core.registry import Registry

REGISTRY = Registry.load()
WORDS = st.text(min_size=1, max_size=9)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
VALUES = st.recursive(NUMBERS | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4), max_leaves=8)
TABLES = st.recursive(
    st.dictionaries(WORDS, VALUES, max_size=4),
    lambda inner: st.dictionaries(WORDS, VALUES | inner, max_size=4),
    max_leaves=8,
)


@st.composite
def recipes(draw):
    """Valid recipes as data."""
    stride = draw(st.sampled_from([(1, 2, 2), (2, 4, 4), (4, 4, 8)]))
    name = st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs")), min_size=1, max_size=9)
    data = {
        "gen": 1,
        "name": draw(name.filter(lambda text: text.isprintable())),
        "seed": draw(st.integers(0, 2**40)),
        "volume": {"size": [n * draw(st.integers(1, 9)) for n in stride]},
        "split": {"val": draw(st.floats(0, 0.9)), "seed": draw(st.integers(0, 99))},
        "dataset": {"use": "retina-phantom", "subjects": draw(st.integers(2, 1000))},
        "codec": {"use": draw(st.sampled_from(["vqvae", "vqgan"])), "stride": list(stride)},
        "prior": {"use": "ddpm3d"},
        "sampler": {"use": draw(st.sampled_from(["ddpm", "ddim"]))},
        "sample": {"n": draw(st.integers(1, 10**6))},
        "metrics": {name: {} for name in draw(st.sets(st.sampled_from(["psnr", "ssim", "throughput"])))},
    }
    fit = {"steps": draw(st.integers(1, 10**6)), "batch": 4, "lr": draw(st.floats(1e-9, 10))}
    data["codec"]["fit"] = fit
    return data


def written(folder, data, name="a.toml"):
    path = folder / name
    path.write_text(to_toml(data), encoding="utf-8")
    return path


@given(TABLES)
def test_what_is_written_is_read_again(data):
    assert tomllib.loads(to_toml(data)) == data


@given(TABLES)
def test_every_key_of_a_text_has_the_line_it_stands_on(data):
    text = to_toml(data)
    lines, found = text.split("\n"), key_lines(text)
    assert set(found) == set(_keys(data)) or not data
    for key, line in found.items():
        from gen_core.recipe.write import key_text

        said = lines[line - 1]
        assert key_text(key[-1:]) in said or said.startswith("["), (key, said)


@given(data=recipes())
def test_a_recipe_locked_and_read_again_is_the_same(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    recipe = load_recipe(written(folder, data), registry=REGISTRY)
    assert recipe.run.name == data["name"] and recipe.sample.n == data["sample"]["n"]
    lock = folder / "recipe.lock.toml"
    lock.write_text(recipe.to_toml(), encoding="utf-8")
    again = load_recipe(lock, registry=REGISTRY)
    assert again.to_dict() == recipe.to_dict() and again.to_toml() == recipe.to_toml()
    assert type(recipe).from_dict(recipe.to_dict(), REGISTRY).to_dict() == recipe.to_dict()


MISTAKES = [
    (("sample", "n"), "many"),
    (("sample", "n"), 0),
    (("sample", "n"), 2**70),
    (("split", "val"), 1.5),
    (("split", "val"), float("nan")),
    (("volume", "size"), [4, 8]),
    (("volume", "size"), [0, 8, 8]),
    (("codec", "use"), "vqvea"),
    (("codec", "stride"), "all"),
    (("codec", "fit", "lr"), -1.0),
    (("codec", "fit", "batch"), True),
    (("sampler", "nonsense"), 1),
    (("nonsense",), {"a": 1}),
]


@given(data=recipes(), mistakes=st.lists(st.sampled_from(MISTAKES), min_size=1, max_size=4, unique_by=lambda m: m[0]))
def test_every_mistake_is_told_with_file_line_and_key(data, mistakes, tmp_path_factory):
    for key, value in mistakes:
        table = data
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = value
    path = written(tmp_path_factory.mktemp("recipe"), data)
    lines = path.read_text().split("\n")
    with pytest.raises(RecipeError) as told:
        load_recipe(path, registry=REGISTRY)
    for key, _ in mistakes:
        if key[0] == "codec" and key != ("codec", "use") and ("codec", "use") in dict(mistakes):
            continue  # settings of a component that does not exist cannot be checked
        named = (f"] {key[-1]} = ", f"[{key[-1]}]")
        about = [p for p in told.value.problems if any(name in p for name in named)]
        assert about, (key, told.value.problems)
        place = re.match(r"(.*a\.toml):(\d+): ", about[0])
        assert place and key[-1] in lines[int(place[2]) - 1], (about[0], lines)


def layered(*layers):
    merged = Merged({}, [])
    for layer in layers:
        merged.lay(layer, {})
    return merged.data


@given(TABLES)
def test_a_layer_over_itself_or_over_nothing_is_itself(data):
    assert layered(data) == data == layered(data, data) == layered({}, data, {})


@given(TABLES, TABLES)
def test_the_upper_layer_wins_and_the_lower_one_fills(under, over):
    merged = layered(under, over)

    def check(under, over, merged, at=()):
        assert set(merged) == set(under) | set(over)
        for name, value in merged.items():
            if name not in over:
                assert value == under[name]
            elif not isinstance(over[name], dict) or not isinstance(under.get(name), dict):
                assert value == over[name]
            elif "use" not in over[name] and at + (name,) not in (("features",), ("segmenter",)):
                check(under[name], over[name], value, at + (name,))

    check(under, over, merged)


@given(TABLES, TABLES, TABLES)
def test_layers_may_be_merged_in_any_grouping(a, b, c):
    assert layered(a, b, c) == layered(layered(a, b), c)


@given(st.dictionaries(WORDS, NUMBERS, max_size=3), st.dictionaries(WORDS, NUMBERS, max_size=3))
def test_another_component_replaces_its_table_whole(old, new):
    under, over = {"codec": {**old, "use": "a"}}, {"codec": {**new, "use": "b"}}
    assert layered(under, over) == over
    assert layered(under, {"codec": {**new, "use": "a"}}) == {"codec": {**old, **new, "use": "a"}}
