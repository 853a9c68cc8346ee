"""TOML values into attrs classes: strict types, and messages in the user's words."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import Factory, field, frozen, validators

from gen_core.recipe.structure import expected, plain, read_options


class Colour(enum.Enum):
    RED = "red"


@frozen
class Inner:
    a: int = 1
    b: float = 2.0


@frozen
class All:
    i: int = 1
    f: float = 1.0
    s: str = ""
    b: bool = False
    three: tuple[int, int, int] = (1, 2, 3)
    pair: tuple[str, float] = ("x", 1.0)
    many: tuple[float, ...] = ()
    nested: tuple[tuple[int, int], ...] = ()
    names: list[str] = Factory(list)
    choice: Literal["one", "two"] = "one"
    number: Literal[1, 2] = 1
    maybe: int | None = None
    either: int | str = 0
    table: dict[str, float] = Factory(dict)
    deep: dict[str, dict[str, int]] = Factory(dict)
    inner: Inner = Inner(b=5.0)
    optional: Inner | None = None
    rows: tuple[Inner, ...] = ()
    anything: Any = None
    path: Path = Path("x")
    colour: Colour = Colour.RED
    positive: int = field(default=1, validator=validators.gt(0))
    ranged: float = field(default=0.5, validator=[validators.ge(0.0), validators.lt(1.0)])
    listed: str = field(default="p", validator=validators.in_(["p", "q"]))
    long: str = field(default="abc", validator=validators.min_len(2))
    match: str = field(default="a1", validator=validators.matches_re(r"[a-z]\d"))
    converted: tuple[int, ...] = field(default=(), converter=lambda v: tuple(int(x) for x in v))
    _hidden: int = 0


def read(**data):
    """(instance or None, [(key, message, value)])."""
    found = []
    note = lambda key, message, value=None: found.append((".".join(key), message, value))
    return read_options(All, data, (), note), found


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("i", 3, 3),
        ("f", 3, 3.0),
        ("s", "x", "x"),
        ("b", True, True),
        ("three", [4, 5, 6], (4, 5, 6)),
        ("pair", ["y", 2], ("y", 2.0)),
        ("many", [1, 2.5], (1.0, 2.5)),
        ("nested", [[1, 2], [3, 4]], ((1, 2), (3, 4))),
        ("names", ["a"], ["a"]),
        ("choice", "two", "two"),
        ("number", 2, 2),
        ("maybe", 3, 3),
        ("either", "x", "x"),
        ("either", 4, 4),
        ("table", {"a": 1}, {"a": 1.0}),
        ("deep", {"a": {"b": 2}}, {"a": {"b": 2}}),
        ("inner", {"a": 7}, Inner(7, 5.0)),
        ("optional", {"a": 7}, Inner(7, 2.0)),
        ("rows", [{"a": 3}, {}], (Inner(3), Inner())),
        ("anything", [1, "x"], [1, "x"]),
        ("path", "/a/b", Path("/a/b")),
        ("colour", "red", Colour.RED),
        ("positive", 2, 2),
        ("converted", ["1", 2], (1, 2)),
    ],
)
def test_right_values_become_what_the_class_says(key, given, value):
    options, problems = read(**{key: given})
    assert problems == []
    got = getattr(options, key)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "given", "message"),
    [
        ("i", 3.0, "expected an integer"),
        ("i", True, "expected an integer"),
        ("i", "3", "expected an integer"),
        ("f", True, "expected a number"),
        ("f", "1.0", "expected a number"),
        ("f", float("nan"), "expected a finite number"),
        ("f", float("inf"), "expected a finite number"),
        ("s", 3, "expected text"),
        ("b", 1, "expected true or false"),
        ("three", [1, 2], "expected a list of 3 integers, got 2"),
        ("three", 3, "expected a list of 3 integers"),
        ("three", [1, 2, "x"], 'expected an integer as number 3 of the list, got "x"'),
        ("pair", ["y"], "expected a list of text, a number, got 1"),
        ("many", "abc", "expected a list of numbers"),
        ("nested", [[1, 2], [3]], "expected a list of 2 integers, got 1 as number 2 of the list, got [3]"),
        ("names", [1], "expected text as number 1 of the list, got 1"),
        ("choice", "tow", 'expected one of "one", "two"; did you mean \'two\'?'),
        ("number", True, "expected one of 1, 2"),
        ("maybe", "x", "expected an integer"),
        ("either", 1.5, "expected an integer or text"),
        ("inner", 3, "expected a table"),
        ("table", [1], "expected a table"),
        ("colour", "blue", "expected Colour"),
        ("positive", 0, "must be > 0"),
        ("ranged", 1.0, "must be < 1.0"),
        ("listed", "r", "must be one of 'p', 'q'"),
        ("long", "a", "its length must be >= 2"),
        ("match", "zz", "must match regex"),
        ("converted", "x", "invalid literal"),
    ],
)
def test_a_wrong_value_is_told_in_the_users_words(key, given, message):
    options, problems = read(**{key: given})
    assert options is None
    ((at, text, value),) = problems
    assert at == key and text.startswith(message) and (value == given or given != given)


def test_mistakes_inside_tables_name_the_inner_key():
    _, problems = read(inner={"a": "x", "c": 1}, table={"k": "v"}, deep={"p": {"q": 1.5}}, rows=[{"a": "x"}])
    assert sorted(p[0] for p in problems) == ["deep.p.q", "inner.a", "inner.c", "rows.a", "table.k"]


def test_all_mistakes_are_found_at_once():
    _, problems = read(i="x", f="y", nonsense=1, positive=-1)
    assert sorted(p[0] for p in problems) == ["f", "i", "nonsense", "positive"]


def test_unknown_keys_name_the_nearest_and_private_fields_go_by_their_alias():
    _, problems = read(positiv=1, zzz=2)
    assert problems[0][1] == "no such setting; did you mean 'positive'?"
    assert problems[1][1] == "no such setting"
    assert read(hidden=3)[0]._hidden == 3


@frozen
class Needs:
    weights: str
    low: int = 0
    high: int = field(default=9)

    @high.validator
    def _rises(self, attribute, value):
        if value <= self.low:
            raise ValueError(f"'high' must be above low = {self.low}")


@frozen
class Sums:
    a: int = 1
    b: int = 2

    def __attrs_post_init__(self):
        if self.a + self.b > 9:
            raise ValueError("a + b must stay below 10")


def test_a_missing_required_setting_is_told():
    found = []
    assert read_options(Needs, {}, ("codec",), lambda *a: found.append(a)) is None
    assert found[0][:2] == (("codec", "weights"), "missing; expected text")


def test_settings_checked_against_each_other_are_told_at_their_key_or_table():
    found = []
    read_options(Needs, {"weights": "w", "low": 5, "high": 2}, ("codec",), lambda *a: found.append(a))
    assert found == [(("codec", "high"), "must be above low = 5", 2)]
    found.clear()
    read_options(Sums, {"a": 8, "b": 8}, ("codec",), lambda *a: found.append(a))
    assert found == [(("codec",), "a + b must stay below 10", {"a": 8, "b": 8})]


def test_plain_makes_json_of_everything():
    import json

    options, _ = read(rows=[{"a": 3}], three=[1, 2, 3])
    data = plain(options)
    assert json.loads(json.dumps(data)) == data
    assert data["rows"] == [{"a": 3, "b": 2.0}] and data["path"] == "x" and data["colour"] == "red"
    assert data["hidden"] == 0 and data["three"] == [1, 2, 3]


def test_types_in_words():
    assert expected(tuple[int, int, int]) == "a list of 3 integers"
    assert expected(tuple[tuple[int, int], ...]) == "a list of (a list of 2 integers)"
    assert expected(int | None) == "an integer" and expected(Literal["a"]) == '"a"'
    assert expected(dict[str, int]) == "a table" and expected(list) == "a list" and expected(Any) == "a value"
