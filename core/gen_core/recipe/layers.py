"""From files and overrides to one merged table: `base` chains, merging, and where every key came from."""

from __future__ import annotations

import datetime
import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli
from attrs import define, field, frozen

from gen_core.errors import RecipeError
from gen_core.recipe.places import key_lines, split_key
from gen_core.recipe.write import key_text, printable, value_text
from gen_core.registry import did_you_mean

Key = tuple[str, ...]
GEN = 1  # of the recipe language
MAX_BYTES = 1 << 20  # of a recipe; the longest of ours has 10 KiB
MAX_KEYS = 4000
MAX_DEPTH = 16  # tables and lists inside each other
MAX_BASES = 32

NAMED = ("features", "segmenter", "metrics", "trackers")
"""Tables that hold named components: [metrics.NAME]; the first two may also be one component themselves."""
DEFAULT_USE = {"report": "html"}


TOO_DEEP = f"tables or lists nested more than {MAX_DEPTH} deep"


class Source:
    """A recipe file or the overrides: says where a key stands."""

    def place(self, key: Key) -> str:
        """The start of a message about `key`: "file:line" or "--set key"."""
        raise NotImplementedError


class File(Source):
    """One recipe file as read. `shown` is its path as messages show it."""

    def __init__(self, path: Path):
        self.path, self.shown = path, _shown(path)
        try:
            if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
                raise RecipeError(f"{self.shown}: cannot be read (a pipe or device, no file)")
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise RecipeError(f"{self.shown}: more than {MAX_BYTES} bytes: is this a recipe?")
            self.text = content.decode("utf-8-sig")
        except OSError as error:
            raise RecipeError(f"{self.shown}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{self.shown}: is not UTF-8 text ({error.reason})") from error
        try:
            self.data: dict[str, Any] = tomli.loads(self.text)
        except tomli.TOMLDecodeError as error:
            at = f"{self.shown}:{error.lineno}:{error.colno}"
            raise RecipeError(f"{at}: not valid TOML: {printable(error.msg)}") from error
        except RecursionError as error:
            raise RecipeError(f"{self.shown}: {TOO_DEEP}") from error
        except ValueError as error:  # a number of thousands of digits
            raise RecipeError(f"{self.shown}: not valid TOML: {printable(str(error))}") from error
        keys, depth = _extent(self.data)
        if depth > MAX_DEPTH:
            raise RecipeError(f"{self.shown}: {TOO_DEEP}")
        if keys > MAX_KEYS:
            raise RecipeError(f"{self.shown}: {keys} keys, expected at most {MAX_KEYS}: is this a recipe?")

    @cached_property
    def lines(self) -> dict[Key, int]:
        return key_lines(self.text.replace("\r\n", "\n"))

    def place(self, key: Key) -> str:
        for n in range(len(key), 0, -1):
            if key[:n] in self.lines:
                return f"{self.shown}:{self.lines[key[:n]]}"
        return self.shown

    @property
    def doc(self) -> str:
        """The leading comment paragraph, without its hashes."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("#").strip())
        return "\n".join(lines).strip()


@frozen
class Override(Source):
    """`--set key.path=value` as given."""

    key: Key
    value: Any
    given: str

    def place(self, key: Key) -> str:
        return f"--set {printable(self.given.partition('=')[0].strip())}"


@define
class Merged:
    """The merged table, and for each key (path) the source that set it last."""

    data: dict[str, Any]
    files: list[File]
    sources: dict[Key, Source] = field(factory=dict)

    @property
    def shown(self) -> str:
        """The recipe's own path as messages show it."""
        return self.files[0].shown if self.files else "recipe"

    def place(self, key: Key) -> str:
        """Where `key` was set, or the nearest table around it."""
        for n in range(len(key), 0, -1):
            if key[:n] in self.sources:
                return self.sources[key[:n]].place(key)
        return self.shown

    def problem(self, key: Key, message: str, value: Any = None) -> str:
        """One line: place, table, key, value, message."""
        table, name = key[:-1], key[-1:]
        if isinstance(value, dict):
            table, name = key, ()
        text = f"[{key_text(table)}] " if table else ""
        if name:
            text += key_text(name) + (f" = {_short(value_text(value))}" if value is not None else "")
        return f"{self.place(key)}: {text.strip()}: {message}"

    def lay(self, data: dict[str, Any], sources: dict[Key, Source]) -> None:
        """Merge another layer over this one: tables merge, lists replace, a changed `use` replaces its table."""
        self._lay(self.data, data, (), sources)

    def _lay(self, under: dict[str, Any], over: dict[str, Any], at: Key, sources: dict[Key, Source]) -> None:
        for name, value in over.items():
            key = (*at, name)
            old = under.get(name)
            if not isinstance(value, dict) or not isinstance(old, dict) or _replaces(key, old, value):
                for known in [key, *_keys(old, key)] if name in under else ():
                    self.sources.pop(known, None)
                under[name] = _copy(value)
                self.sources.update({k: sources[k] for k in [key, *_keys(value, key)] if k in sources})
            else:
                self._lay(old, value, key, sources)
                # a table keeps the place where it was opened first; its keys have their own


def _replaces(key: Key, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether `new` is another component than `old`, so that nothing of the old one may stay."""
    if len(key) == 1 and key[0] in ("features", "segmenter"):
        one, other = "use" in old, "use" in new
        named = any(isinstance(v, dict) and "use" in v for v in new.values())
        if one != other and (other or named):
            return True
    default = DEFAULT_USE.get(key[0]) if len(key) == 1 else None
    if len(key) == 2 and key[0] in ("metrics", "trackers"):
        default = key[1]
    return "use" in new and new["use"] != old.get("use", default)


def read_layers(path: Path, overrides: Sequence[str] = ()) -> Merged:
    """Read a recipe with its bases and overrides. Raises: RecipeError."""
    files = _chain(path)
    merged = Merged({}, files)
    problems = []
    for file in reversed(files):
        data = {k: v for k, v in file.data.items() if k != "base"}
        if "gen" not in data:
            problems.append(f"{file.shown}: gen: missing; a recipe starts with `gen = {GEN}`")
        elif data["gen"] != GEN or isinstance(data["gen"], bool):
            problems.append(f"{file.place(('gen',))}: gen = {data['gen']!r}: expected {GEN}")
        merged.lay(data, {key: file for key in _keys(data)})
    overrides_, more = _overrides(overrides)
    problems += more
    if overrides_:
        data, sources = {}, {}
        for override in overrides_:
            problems += _place(data, sources, override)
        merged.lay(data, sources)
    if problems:
        raise RecipeError(problems)
    merged.data.pop("gen", None)
    return merged


def _chain(path: Path) -> list[File]:
    """The recipe and its bases, itself first."""
    files = [File(path)]
    while "base" in files[-1].data:
        last = files[-1]
        base = last.data["base"]
        at = f"{last.place(('base',))}: base = "
        if not isinstance(base, str):
            raise RecipeError(f"{at}{base!r}: expected the path or the name of a recipe")
        if "\0" in base or len(base) > 4096:
            raise RecipeError(f"{at}{value_text(base)[:60]}: no path")
        target = last.path.parent / base
        if not target.is_file():
            try:
                target = resolve_recipe_path(base)
            except RecipeError as error:
                raise RecipeError(f'{at}"{base}": {error}') from None
        if len(files) > MAX_BASES:
            raise RecipeError(f'{at}"{base}": more than {MAX_BASES} bases above each other')
        if any(target.resolve() == f.path.resolve() for f in files):
            ring = " -> ".join(f.shown for f in files)
            raise RecipeError(f'{at}"{base}": goes round in a circle ({ring} -> {_shown(target)})')
        files.append(File(target))
    return files


def _overrides(given: Iterable[str]) -> tuple[list[Override], list[str]]:
    found, problems = [], []
    for text in given:
        name, equals, value = text.partition("=")
        try:
            if not equals:
                raise ValueError
            key = split_key(name.strip())
        except ValueError:
            problems.append(f"--set {printable(text)[:60]}: expected key.path=value, for example codec.fit.steps=100")
            continue
        if key[0] in ("gen", "base"):
            problems.append(f"--set {name.strip()}: '{key[0]}' can only be said in a file")
            continue
        try:
            given_value = toml_value(value.strip())
            deep = len(key) + _extent(given_value)[1] > MAX_DEPTH if isinstance(given_value, dict | list) else False
        except RecursionError:
            deep = True
        if deep or len(key) > MAX_DEPTH:
            problems.append(f"--set {printable(text)[:60]}: {TOO_DEEP}")
            continue
        found.append(Override(key, given_value, text))
    return found, problems


def toml_value(text: str) -> Any:
    """A value as TOML reads it; what is not TOML (a path, a name) is text."""
    try:
        data = tomli.loads(f"value = {text}")
    except ValueError:
        return text
    dates = datetime.date | datetime.time
    return text if data.keys() != {"value"} or isinstance(data["value"], dates) else data["value"]


def _place(data: dict[str, Any], sources: dict[Key, Source], override: Override) -> list[str]:
    """Enter one override into the layer of overrides; the last one of a key wins."""
    table = data
    for n, name in enumerate(override.key[:-1], 1):
        sources[override.key[:n]] = override
        if not isinstance(table.setdefault(name, {}), dict):
            return [f"{override.place(())}: another --set gives {'.'.join(override.key[:n])} a plain value"]
        table = table[name]
    table[override.key[-1]] = override.value
    sources[override.key] = override
    for key in _keys(override.value) if isinstance(override.value, dict) else ():
        sources[override.key + key] = override
    return []


def _keys(data: Any, at: Key = ()) -> Iterable[Key]:
    for name, value in data.items() if isinstance(data, dict) else ():
        yield (*at, name)
        if isinstance(value, dict):
            yield from _keys(value, (*at, name))


def _extent(data: Any) -> tuple[int, int]:
    """How many keys and list items there are in all, and how deep tables and lists lie inside each other."""
    count, depth, level = 0, 0, [data]
    while level:
        inner = [v for value in level for v in (value.values() if isinstance(value, dict) else value)]
        count += len(inner)
        depth += 1
        level = [v for v in inner if isinstance(v, dict | list)]
    return count, depth - 1


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def recipe_folders() -> list[Path]:
    """Where recipes lie: beside a checkout's code, and in share/gen/recipes of the installation."""
    site = Path(__file__).resolve().parents[2]  # holds gen_core: a checkout's core/, or site-packages
    roots = [Path(sysconfig.get_path("data")), Path(sys.prefix), site]
    roots += [site.parents[2]] if len(site.parents) > 2 else []  # of a user's own site-packages
    folders = [site.parent / "recipes", *(root / "share" / "gen" / "recipes" for root in roots)]
    return list(dict.fromkeys(f for f in folders if f.is_dir()))


def find_recipes() -> list[Path]:
    """Every installed recipe, sub-folders included, sorted by name."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in sorted(folder.rglob("*.toml")):
            found.setdefault(str(path.relative_to(folder)), path)
    return [found[k] for k in sorted(found)]


def resolve_recipe_path(name: str | Path) -> Path:
    """A recipe's file, from a path or the name of an installed one. Raises: RecipeError with the nearest name."""
    path = Path(name)
    if path.is_file():
        return path
    wanted = {str(name), f"{name}.toml"}
    names = []
    for folder in recipe_folders():
        for recipe in sorted(folder.rglob("*.toml")):
            relative = recipe.relative_to(folder).as_posix()
            if {relative, recipe.name, f"recipes/{relative}"} & wanted:
                return recipe
            names.append(relative.removesuffix(".toml"))
    near = did_you_mean(path.name.removesuffix(".toml"), names)
    raise RecipeError(f"no recipe '{name}'; installed: {', '.join(names) or 'none'}{near}")
