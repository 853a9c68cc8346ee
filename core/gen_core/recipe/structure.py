"""TOML data into frozen attrs classes: every wrong key and value is reported at once, in the user's words."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union

import attrs

from gen_core.recipe.write import value_text
from gen_core.registry import did_you_mean

Key = tuple[str, ...]
Problem = Callable[..., None]
"""problem(key, message, value=None) notes one mistake."""

MISSING = object()
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "integers", float: "numbers", bool: "true or false", str: "texts"}


class Mismatch(Exception):
    """A value that is not of the wanted type; the message says what was expected."""


def read_options(cls: type, data: dict[str, Any], key: Key, problem: Problem, start: Any = None) -> Any:
    """An instance of the attrs class `cls` from `data`, or None after at least one `problem`.

    start: the instance whose values stand for keys that `data` leaves out; None means the class's defaults.
    A nested attrs field starts from its own default instance, so that `fit.batch = 1` keeps the other defaults.
    """
    found: list[Key] = []

    def note(at: Key, message: str, value: Any = None) -> None:
        found.append(at)
        problem(at, message, value)

    hints = field_types(cls)
    fields = {f.alias: f for f in attrs.fields(cls) if f.init}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in fields:
            note((*key, name), "no such setting" + _known(name, fields), value)
    for name, field in fields.items():
        at, default = (*key, name), _default(field) if start is None else getattr(start, field.name)
        if name not in data:
            if default is attrs.NOTHING:
                note(at, f"missing; expected {expected(hints[field.name])}")
            elif start is not None:
                values[name] = default
            continue
        try:
            values[name] = _read_field(field, data[name], hints[field.name], at, note, default)
        except Mismatch as mismatch:
            note(at, str(mismatch), data[name])
    if found:
        return None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        name, message = _reworded(error)
        at, value = ((*key, name), data.get(name)) if name in fields else (key, data)
        note(at, message, value)
        return None


def _read_field(field: Any, value: Any, tp: Any, at: Key, note: Problem, default: Any) -> Any:
    if field.converter is not None:
        try:
            field.converter(value)
        except Exception as error:
            raise Mismatch(str(error)) from error
        return value  # the class converts once more when it is built
    result = read_value(value, tp, at, note, None if default is attrs.NOTHING else default)
    if field.validator is not None and result is not None:
        try:
            field.validator(None, field, result)
        except (ValueError, TypeError) as error:
            raise Mismatch(_reworded(error)[1]) from error
        except AttributeError:
            pass  # it looks at other fields of the instance: runs when the class is built
    return result


def read_value(value: Any, tp: Any, at: Key, note: Problem, default: Any = None) -> Any:
    """`value` as type `tp`; None after a mistake inside a nested table. Raises: Mismatch."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(value, args, tp, at, note, default)
    if origin is Literal:
        if any(value == a and type(value) is type(a) for a in args):
            return value
        near = did_you_mean(value, [a for a in args if isinstance(a, str)]) if isinstance(value, str) else ""
        raise Mismatch(f"expected {expected(tp)}{near}")
    if attrs.has(origin or tp):
        if isinstance(value, origin or tp):
            return value
        if not isinstance(value, dict):
            raise Mismatch("expected a table")
        start = default if attrs.has(type(default)) else None
        return read_options(type(start) if start is not None else tp, value, at, note, start)
    if tp is type(None):
        if value is None:
            return None
    elif tp is bool or tp is str:
        if isinstance(value, tp):
            return value
    elif tp is int:
        if isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**63:
                raise Mismatch("expected an integer of at most 64 bits")
            return value
    elif tp is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                raise Mismatch("expected a finite number")
            return number
    elif (origin or tp) in (tuple, list, set, frozenset):
        return _read_list(value, tp, at, note)
    elif (origin or tp) is dict:
        if isinstance(value, dict):
            inner = args[1] if len(args) == 2 else Any
            return {k: _element(v, inner, (*at, k), note) for k, v in value.items()}
    else:
        return _read_other(value, tp)
    raise Mismatch(f"expected {expected(tp)}")


def _read_union(value: Any, args: tuple, tp: Any, at: Key, note: Problem, default: Any) -> Any:
    # exact types first, so that an int stays an int where float is possible too
    for arg in sorted(args, key=lambda a: 0 if type(value) is (typing.get_origin(a) or a) else 1):
        inner: list[tuple] = []
        keep = lambda *mistake, inner=inner: inner.append(mistake)
        try:
            result = read_value(value, arg, at, keep, default)
        except Mismatch:
            continue
        if inner and sum(attrs.has(typing.get_origin(a) or a) for a in args) > 1:
            continue  # perhaps another of the tables fits
        for mistake in inner:
            note(*mistake)
        return result
    options = [a for a in args if a is not type(None)]
    if len(options) == 1:
        return read_value(value, options[0], at, note, default)  # the precise message
    raise Mismatch(f"expected {expected(tp)}")


def _read_list(value: Any, tp: Any, at: Key, note: Problem) -> Any:
    origin, args = typing.get_origin(tp) or tp, typing.get_args(tp)
    if not isinstance(value, list | tuple):
        raise Mismatch(f"expected {expected(tp)}")
    if origin is tuple and args and args[-1] is not Ellipsis:
        wanted = list(args)
        if len(value) != len(wanted):
            raise Mismatch(f"expected {expected(tp)}, got {len(value)}")
    else:
        wanted = [args[0] if args else Any] * len(value)
    items = []
    for n, (item, inner) in enumerate(zip(value, wanted), 1):
        try:
            items.append(read_value(item, inner, at, note))
        except Mismatch as mismatch:
            raise Mismatch(f"{mismatch} as number {n} of the list, got {value_text(item)}") from None
    return origin(items)


def _element(value: Any, tp: Any, at: Key, note: Problem) -> Any:
    try:
        return read_value(value, tp, at, note)
    except Mismatch as mismatch:
        note(at, str(mismatch), value)
        return None


def _read_other(value: Any, tp: Any) -> Any:
    """Types that TOML does not know (paths, enums, a plugin's own): what cattrs makes of them."""
    import cattrs

    try:
        return cattrs.structure(value, tp)
    except Exception as error:
        raise Mismatch(f"expected {expected(tp)} ({error})") from error


def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type of an attrs class."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints.get(f.name, Any) for f in attrs.fields(cls)}


def expected(tp: Any) -> str:
    """A type in words: "an integer", "a list of 3 integers", "one of 'a', 'b'"."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp in WORDS:
        return WORDS[tp]
    if tp is Any:
        return "a value"
    if origin in (Union, types.UnionType):
        return " or ".join(expected(a) for a in args if a is not type(None))
    if origin is Literal:
        return f"one of {', '.join(value_text(a) for a in args)}" if len(args) > 1 else value_text(args[0])
    if (origin or tp) is dict or attrs.has(origin or tp):
        return "a table"
    if (origin or tp) in (tuple, list, set, frozenset):
        if not args:
            return "a list"
        inner = PLURALS.get(args[0], f"({expected(args[0])})")
        if origin is tuple and args[-1] is not Ellipsis:
            if len(set(args)) > 1:
                return f"a list of {', '.join(expected(a) for a in args)}"
            return f"a list of {len(args)} {inner}"
        return f"a list of {inner}"
    return getattr(tp, "__name__", str(tp))


def plain(value: Any) -> Any:
    """An options instance as JSON-able data: dicts, lists, numbers, text, None."""
    if attrs.has(type(value)):
        return {f.alias: plain(getattr(value, f.name)) for f in attrs.fields(type(value)) if f.init}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(v) for v in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    import cattrs

    result = cattrs.unstructure(value)
    return result if isinstance(result, bool | int | float | str | dict | list) else str(value)


def table_references(options: Any) -> Iterator[tuple[str, str, str]]:
    """(key, kind, table name) of every setting that names another table of the recipe."""
    for field in attrs.fields(type(options)):
        kind = field.metadata.get("table")
        value = getattr(options, field.name)
        for name in (value if isinstance(value, tuple | list) else [value]) if kind else ():
            if name:
                yield field.alias, kind, name


def _default(field: Any) -> Any:
    default = field.default
    if isinstance(default, attrs.Factory):
        return None if default.takes_self else default.factory()
    return default


def _known(name: str, fields: Any) -> str:
    near = did_you_mean(name, fields)
    if near:
        return near
    return f"; known: {', '.join(fields)}" if 0 < len(fields) <= 12 else ""


def _reworded(error: Exception) -> tuple[str, str]:
    """(field or "", message): attrs says `'steps' must be > 0: -1`, the user needs `must be > 0`."""
    text = str(error.args[0]) if error.args else str(error)
    match = re.match(r"(?:'(\w+)'|Length of '(\w+)') (.*)", text, re.S)
    if not match:
        return "", text
    message = match[3] if match[1] else f"its length {match[3]}"
    message = re.sub(r": [^:]*$", "", message) if re.match(r"(its length )?must be [<>=]", message) else message
    message = re.sub(r"must be in [\[({]?(.*?)[\])}]? \(got .*\)$", r"must be one of \1", message, flags=re.S)
    return match[1] or match[2], message
