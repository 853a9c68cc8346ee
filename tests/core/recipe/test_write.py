"""Plain data to TOML and back, read by tomli."""

from __future__ import annotations

import random
import string

import pytest
import tomli

from gen_core.recipe.write import key_text, to_toml, value_text


def test_what_is_written_reads_back():
    data = {
        "gen": 1,
        "text": 'quote " backslash \\ newline \n tab \t nul-free \x7f é 日本',
        "small": 1e-07,
        "large": 1e300,
        "negative": -0.0,
        "yes": True,
        "empty": [],
        "lists": [[1, 2], ["a"]],
        "rows": [{"a": 1, "b c": [{"d": False}]}, {}],
        "table": {"ms-ssim": {"a.b": 1}, "dpm++2m": {"x": 1}, "nothing": {}},
        "deep": {"only": {"tables": {"x": 1}}},
    }
    assert tomli.loads(to_toml(data)) == data


def test_none_is_left_out_and_the_doc_is_a_comment():
    text = to_toml({"a": None, "b": {"c": None, "d": 1}, "rows": [{"e": None, "f": 2}]}, "One.\n\nTwo.")
    assert text.startswith("# One.\n#\n# Two.\n\n")
    assert tomli.loads(text) == {"b": {"d": 1}, "rows": [{"f": 2}]}


@pytest.mark.parametrize("seed", range(20))
def test_random_data_reads_back(seed):
    rng = random.Random(seed)

    def word():
        return "".join(rng.choice(string.printable + 'é"\\') for _ in range(rng.randint(0, 6))).replace("\r", "")

    def value(depth):
        kind = rng.randint(0, 5 if depth else 3)
        if kind == 4:
            return [value(depth - 1) for _ in range(rng.randint(0, 3))]
        if kind == 5:
            return {word(): value(depth - 1) for _ in range(rng.randint(0, 3))}
        return [rng.randint(-9, 9), rng.gauss(0, 1e6), rng.random() < 0.5, word()][kind]

    data = {word(): value(3) for _ in range(5)}
    assert tomli.loads(to_toml(data)) == data


def test_keys_are_quoted_where_they_must_be():
    assert key_text(("codec", "ms-ssim", "a b")) == 'codec.ms-ssim."a b"'
    assert value_text((1, 2.5, "x", True)) == '[1, 2.5, "x", true]'
    assert value_text({}) == "{}"
