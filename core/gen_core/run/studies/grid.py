"""From [sweep] to settings: the axes, their combinations, and a short name for each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import tomli

from gen_core.errors import UsageError
from gen_core.options import SweepOptions
from gen_core.recipe.layers import toml_value
from gen_core.recipe.places import split_key
from gen_core.recipe.write import value_text

LONGEST = 80  # characters of a child's name


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """ "codec.codes=64,256" -> ("codec.codes", [64, 256]); values are TOML, or else text. Raises: UsageError."""
    key, equals, values = text.partition("=")
    try:
        split_key(key.strip())
        if not equals or not values.strip():
            raise ValueError
    except ValueError:
        raise UsageError(f"--grid {text}: expected key=a,b,c, for example codec.codes=64,256") from None
    try:
        return key.strip(), tomli.loads(f"values = [{values}]")["values"]
    except tomli.TOMLDecodeError:
        return key.strip(), [toml_value(value.strip()) for value in values.split(",")]


def combinations(options: SweepOptions) -> list[tuple[str, dict[str, Any]]]:
    """(case, settings) of every child: each case with every combination of the grid, but for what is excluded.

    Raises: UsageError when there is nothing to sweep, too much, or an exclusion that excludes nothing.
    """
    if not options.grid and not options.cases:
        raise UsageError("nothing to sweep: give [sweep.grid] or [sweep.cases] in the recipe, or --grid key=a,b,c")
    found = []
    for case, bundle in (options.cases or {"": {}}).items():
        for values in itertools.product(*options.grid.values()):
            settings = {**dict(zip(options.grid, values)), **bundle}
            if len(settings) < len(options.grid) + len(bundle):
                raise UsageError(f"[sweep.cases] {case}: sets what the grid sets too")
            found.append((case, settings))
    left = list(found)
    for entry in options.exclude:
        kept = [(case, s) for case, s in left if any({**s, "case": case}.get(k) != v for k, v in entry.items())]
        if len(kept) == len(left):
            raise UsageError(f"[sweep] exclude: no child has {value_text(entry)}")
        left = kept
    if len(left) > options.max_children:
        raise UsageError(
            f"{len(left)} children, at most {options.max_children} are allowed; raise [sweep] max_children or "
            f"leave some out by exclude"
        )
    return left


def named(children: Sequence[tuple[str, dict[str, Any]]], options: SweepOptions) -> list[tuple[str, dict[str, Any]]]:
    """Children by short names made of the case and the grid's values: "vqgan-base128"."""
    short = {key: _short(key, list(options.grid)) for key in options.grid}
    result = []
    for case, settings in children:
        parts = [case] if case else []
        parts += [_part(short[key], settings[key]) for key in options.grid]
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", "-".join(parts)).strip("._-")[:LONGEST]
        result.append((name, settings))
    names = [name for name, _ in result]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"[sweep] two children would be called '{name}'; a value stands twice, or cases need names"
            )
    return result


def _short(key: str, keys: list[str]) -> str:
    """The end of a dotted key that tells it from the other keys; `codec.use` is "codec"."""
    parts = key.removesuffix(".use").split(".")
    ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
    return next((e for e in ends if not any(k != key and f".{k}".endswith(f".{e}") for k in keys)), key)


def _part(key: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}"
    if isinstance(value, bool):
        return f"{key}-{'on' if value else 'off'}"
    text = "x".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)
    return f"{key}{text}" if isinstance(value, list | tuple) else f"{key}-{text}"
