"""The registry: every component of every installed plugin by kind and name, found without importing any of them.

It walks the entry points of group `gen.plugins` itself, one by one, so that a plugin that breaks is a row with its
cause and nothing else. Nothing behind a registered string is imported before it is used.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy
from attrs import Factory, define, frozen

from gen_core import API_VERSION
from gen_core.errors import MissingError, RecipeError
from gen_core.hooks import GROUP, KINDS, Specs, hook_name

OWN = "gen-imaging"  # our own distribution: no allow-list can lock it out
ALLOW = "GEN_PLUGINS"  # environment: comma list of distributions that may add plugins; "off" = only our own

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "package.module:name"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+\-]*")  # no dots: recipes address tables as kind.name
PROBLEMATIC = {"broken", "warning", "conflict"}
IMPORTED_AS = {
    # where the name to import is not the name to install
    "faiss": "faiss-cpu",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
}


@frozen
class Component:
    """One registered component. `options` and `builder` are "module:name" strings, resolved on use.

    version: the component's integer version, part of every fingerprint. module: the plugin module that
    registered it. distribution, distribution_version: the pip package it came with.
    """

    kind: str
    name: str
    options: str
    builder: str
    version: int
    summary: str
    module: str
    distribution: str
    distribution_version: str

    @property
    def owner(self) -> str:
        """Distribution and plugin module, for messages."""
        return f"{self.distribution} {self.distribution_version} ({self.module})"

    def options_class(self) -> type:
        """The frozen attrs class of its settings. Raises: MissingError."""
        return self._resolve(self.options)

    def build(self, options: Any, context: Any) -> Any:
        """Import the component and build it. Raises: MissingError naming the extra that is not installed."""
        make = self._resolve(self.builder)
        try:
            return make(options, context)
        except ModuleNotFoundError as error:
            raise self._missing(error) from error

    def _resolve(self, reference: str) -> Any:
        module, _, attribute = reference.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise self._missing(error) from error
        except AttributeError as error:
            raise MissingError(f"{self.kind} '{self.name}' of {self.owner}: {error}") from error

    def _missing(self, error: ImportError) -> MissingError:
        what = f"{self.kind} '{self.name}' of {self.owner}"
        package = (error.name or "").partition(".")[0]
        if not isinstance(error, ModuleNotFoundError) or not package or package == _package(self.module):
            return MissingError(f"{what} cannot be imported: {error}")
        extra = _extra_with(self.distribution, package)
        if extra:
            install = f'pip install "{self.distribution}[{extra}]" (extra `{extra}`)'
        else:
            install = f"pip install {IMPORTED_AS.get(package, package)}"
        return MissingError(f"{what} needs '{package}', which is not installed: {install}")


@frozen
class Note:
    """What there is to say of one plugin as a whole. status: "broken", "warning" or "off"."""

    plugin: str
    module: str
    distribution: str
    distribution_version: str
    status: str
    problem: str


@define
class Registry:
    """Components by kind and name. `Registry.load()` finds the installed ones; `add` takes a plugin module."""

    components: dict[tuple[str, str], list[Component]] = Factory(dict)
    notes: list[Note] = Factory(list)

    @classmethod
    def load(cls, allow: str | Iterable[str] | None = None) -> Registry:
        """Walk the installed entry points.

        allow: distributions that may add plugins beside our own, "off" for none, None to ask the environment
        variable GEN_PLUGINS (unset: all).
        """
        allowed = _allowed(os.environ.get(ALLOW) if allow is None else allow)
        registry = cls()
        for distribution, version, entries in _entry_points():
            for plugin, module in entries:
                if allowed is not None and _normal(distribution) not in allowed:
                    note = f"switched off: {ALLOW} does not name {distribution}"
                    registry.notes.append(Note(plugin, module, distribution, version, "off", note))
                else:
                    registry.add(module, plugin, distribution, version)
        return registry

    def add(self, module: str | ModuleType, plugin: str, distribution: str, version: str) -> None:
        """Take in one plugin; whatever goes wrong becomes a note and adds no component."""
        name = module if isinstance(module, str) else module.__name__
        note = lambda status, problem: self.notes.append(Note(plugin, name, distribution, version, status, problem))
        out, found, warnings = io.StringIO(), [], []
        had_torch = "torch" in sys.modules
        try:
            # what a plugin prints would end up in the middle of --json
            with redirect_stdout(out), redirect_stderr(out):
                if ":" in name:
                    raise ValueError(f"an entry point of {GROUP} names a module, without ':'")
                loaded = importlib.import_module(name) if isinstance(module, str) else module
                found, warnings = _collect(loaded, distribution, version)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: no plugin ends the program
            note("broken", _cause(error))
            return
        if out.getvalue().strip():
            warnings.append(f"prints when it is loaded: {_short(out.getvalue())!r}")
        if not had_torch and "torch" in sys.modules:
            warnings.append("imports torch when it is loaded; import it in the component's module instead")
        for problem in warnings:
            note("warning", problem)
        for component in found:
            self.components.setdefault((component.kind, component.name), []).append(component)

    def get(self, kind: str, name: str) -> Component:
        """The component `name` of `kind`. Raises: RecipeError when there is none, or more than one owner."""
        found = self.components.get((kind, name), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise RecipeError(
                f"{kind} '{name}' is offered twice, by {' and by '.join(c.owner for c in found)}; "
                f"uninstall one, or name the distributions you want in {ALLOW}"
            )
        raise RecipeError(self._unknown(kind, name))

    def _unknown(self, kind: str, name: str) -> str:
        names = self.names(kind)
        message = f"no {kind} '{name}'; installed: {', '.join(names) or 'none'}" + did_you_mean(name, names)
        off = sum(n.status in ("broken", "off") for n in self.notes)
        if off:
            message += f" ({off} plugin{'s' * (off > 1)} not loaded, see `gen plugins list`)"
        return message

    def names(self, kind: str) -> list[str]:
        """The names of one kind, sorted; names with two owners included."""
        return sorted(n for k, n in self.components if k == kind)

    def rows(self) -> list[dict[str, Any]]:
        """One row a component and one a plugin with something to say, as JSON."""
        rows = []
        for kind in KINDS:
            for name in self.names(kind):
                found = self.components[kind, name]
                for component in found:
                    others = [c.owner for c in found if c is not component]
                    rows.append(
                        {
                            "kind": kind,
                            "name": name,
                            "version": component.version,
                            "summary": component.summary,
                            "distribution": component.distribution,
                            "distribution_version": component.distribution_version,
                            "module": component.module,
                            "status": "conflict" if others else "ok",
                            "problem": f"also offered by {' and by '.join(others)}" if others else "",
                        }
                    )
        for note in self.notes:
            rows.append(
                {
                    "kind": "plugin",
                    "name": note.plugin,
                    "version": None,
                    "summary": "",
                    "distribution": note.distribution,
                    "distribution_version": note.distribution_version,
                    "module": note.module,
                    "status": note.status,
                    "problem": note.problem,
                }
            )
        return rows

    @property
    def problems(self) -> list[str]:
        """One line for each plugin or name that does not work as it should (switched off is no problem)."""
        return [
            f"{row['kind']} '{row['name']}' of {row['distribution']} {row['distribution_version']}"
            f" ({row['module']}): {row['problem']}"
            for row in self.rows()
            if row["status"] in PROBLEMATIC
        ]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the nearest of `names`, or "" when none is near."""
    import difflib  # on mistakes only

    by_lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(word.lower(), list(by_lower), 1, 0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""


def _collect(module: ModuleType, distribution: str, version: str) -> tuple[list[Component], list[str]]:
    """Call the hooks of one plugin module: its components, and warnings. Raises whatever the plugin raises."""
    api = getattr(module, "GEN_API", API_VERSION)
    if api != API_VERSION:
        raise ValueError(f"made for plugin interface {api!r}, this gen has {API_VERSION}")
    manager = pluggy.PluginManager("gen")
    manager.add_hookspecs(Specs())
    manager.register(module)
    hooks = {hook_name(kind): kind for kind in KINDS}
    warnings = []
    for name, value in vars(module).items():
        if not name.startswith("register_") or not callable(value):
            continue
        if name not in hooks:
            warnings.append(f"unknown hook '{name}'" + did_you_mean(name, hooks))
        elif manager.parse_hookimpl_opts(module, name) is None:
            warnings.append(f"hook '{name}' lacks @hookimpl and is ignored")
    found: list[Component] = []
    for name, kind in hooks.items():
        getattr(manager.hook, name)(register=_register(found, kind, module.__name__, distribution, version))
    if not found and not warnings:
        warnings.append("registers nothing")
    return found, warnings


def _register(
    found: list[Component], kind: str, module: str, distribution: str, distribution_version: str
) -> Callable[..., None]:
    def register(name: str, *, options: str, build: str, version: int, summary: str) -> None:
        """Add one component; only strings, so that nothing is imported before it is used."""
        at = f"{kind} {name!r}"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"{at}: a name is letters, digits, '-', '_' and '+'")
        for key, value in (("options", options), ("build", build)):
            if not isinstance(value, str) or not REFERENCE.fullmatch(value):
                raise ValueError(f'{at}: {key} must be a string "package.module:name", got {value!r}')
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError(f"{at}: version must be an integer from 1, got {version!r}")
        if not isinstance(summary, str):
            raise ValueError(f"{at}: summary must be text, got {summary!r}")
        if any(c.name == name and c.kind == kind for c in found):
            raise ValueError(f"{at} is registered twice")
        found.append(
            Component(kind, name, options, build, version, summary, module, distribution, distribution_version)
        )

    return register


def _entry_points() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(distribution, version, [(name, module), ...]) of each distribution with entries in our group.

    entry_points() of the standard library parses the metadata of every installed distribution; only those
    few whose entry_points.txt names our group need it.
    """
    seen = set()
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or GROUP not in text:
            continue
        entries = [(e.name, e.value) for e in distribution.entry_points if e.group == GROUP]
        head = distribution.metadata
        name = head["Name"] or "unknown"
        if not entries or _normal(name) in seen:  # shadowed by an earlier folder on sys.path
            continue
        seen.add(_normal(name))
        yield name, head["Version"] or "0", entries


def _allowed(allow: str | Iterable[str] | None) -> set[str] | None:
    if allow is None:
        return None
    names = allow.split(",") if isinstance(allow, str) else list(allow)
    names = [n.strip() for n in names if n.strip()]
    if not names and isinstance(allow, str):
        return None  # an empty variable is an unset one
    return {_normal(OWN)} | ({_normal(n) for n in names} if names != ["off"] else set())


def _extra_with(distribution: str, package: str) -> str:
    """The extra of `distribution` that installs `package`, or ""."""
    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ""
    wanted = {_normal(package), _normal(IMPORTED_AS.get(package, package))}
    extras = []
    for line in requires:
        required = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if required and extra and _normal(required[0]) in wanted:
            extras.append(extra[1])
    return next((e for e in extras if e != "test"), "")


def _normal(name: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(module: str) -> str:
    return module.partition(".")[0]


def _cause(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"ends the program when it is loaded (SystemExit: {error.code})"
    return f"{type(error).__name__}: {_short(str(error))}"


def _short(text: str, length: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
