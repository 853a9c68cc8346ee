"""What one plugin module offers: its hooks are called, and what they register is checked."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType

import pluggy

from gen_core import API_VERSION
from gen_core.component import NAME, REFERENCE, Component, did_you_mean, said, shortened
from gen_core.errors import GenError
from gen_core.hooks import GROUP, KINDS, Specs, hook_name

Offers = tuple[list[Component], list[str]]  # components, and warnings


def offers_of(module: str | ModuleType, distribution: str, version: str) -> Offers:
    """The components of a plugin module, imported when it is a name, and what a user should know of it.

    Raises: whatever the plugin raises, SystemExit included.
    """
    name = module if isinstance(module, str) else module.__name__
    if ":" in name:
        raise ValueError(f"an entry point of {GROUP} names a module, without ':'")
    out, had_torch = io.StringIO(), "torch" in sys.modules
    # what a plugin prints would end up in the middle of --json
    with redirect_stdout(out), redirect_stderr(out):
        loaded = importlib.import_module(name) if isinstance(module, str) else module
        found, warnings = _collect(loaded, distribution, version)
    if out.getvalue().strip():
        warnings.append(prints(out.getvalue()))
    if not had_torch and "torch" in sys.modules:
        warnings.append("imports torch when it is loaded; import it in the component's module instead")
    return found, warnings


def prints(text: str) -> str:
    """The warning for a plugin that prints `text`."""
    return f"prints when it is loaded: {shortened(text)!r}"


def _collect(module: ModuleType, distribution: str, version: str) -> Offers:
    api = getattr(module, "GEN_API", API_VERSION)
    if api != API_VERSION:
        raise ValueError(f"made for plugin interface {api!r}, this gen has {API_VERSION}")
    manager = pluggy.PluginManager("gen")
    manager.add_hookspecs(Specs())
    manager.register(module)
    hooks = {hook_name(kind): kind for kind in KINDS}
    warnings = []
    for name, value in list(vars(module).items()):
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
        component = Component(kind, name, options, build, version, summary, module, distribution, distribution_version)
        check(component)
        if any(c.name == name and c.kind == kind for c in found):
            raise ValueError(f"{kind} {name!r} is registered twice")
        found.append(component)

    return register


def check(component: Component) -> None:
    """Refuse what is no name, no reference or no version. Raises: ValueError."""
    c, at = component, f"{component.kind} {component.name!r}"
    if not isinstance(c.name, str) or not NAME.fullmatch(c.name):
        raise ValueError(f"{at}: a name is letters, digits, '-', '_' and '+'")
    for key, value in (("options", c.options), ("build", c.builder)):
        if not isinstance(value, str) or not REFERENCE.fullmatch(value):
            raise ValueError(f'{at}: {key} must be a string "package.module:name", got {value!r}')
    if not isinstance(c.version, int) or isinstance(c.version, bool) or c.version < 1:
        raise ValueError(f"{at}: version must be an integer from 1, got {c.version!r}")
    if not isinstance(c.summary, str):
        raise ValueError(f"{at}: summary must be text, got {c.summary!r}")


def unusable(component: Component) -> str:
    """Why a component cannot be used, as far as its options and the place of its builder tell; "" when it can."""
    try:
        component.options_class()
        module = component.builder.partition(":")[0]
        here = module in sys.modules or importlib.util.find_spec(module)
    except GenError as error:
        return str(error)
    except Exception as error:
        return f"{component.kind} '{component.name}': {said(error)}"
    if not here:
        return f"{component.kind} '{component.name}': there is no module '{module}' to build it from"
    return ""
