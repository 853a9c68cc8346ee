"""The registry: every component of every installed plugin by kind and name, found without importing any of them.

It walks the entry points of group `gen.plugins` itself, one by one, so that a plugin that breaks is a row with its
cause and nothing else. Our own plugin modules are imported here; strangers' are asked in a process of their own
(`plugin_probe`). Nothing behind a registered string is imported before it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from attrs import Factory, define, frozen

from gen_core.component import OWN, Component, did_you_mean, normal_name, said
from gen_core.errors import RecipeError
from gen_core.hooks import KINDS
from gen_core.installed import ALLOW, AllowList, entry_points
from gen_core.offers import Offers, offers_of

__all__ = ["OWN", "Component", "Note", "Registry", "did_you_mean"]

PROBLEMATIC = {"broken", "warning", "conflict"}


@frozen
class Note:
    """What there is to say of one plugin as a whole. status: "broken", "warning", "off" or "absent"."""

    plugin: str
    module: str
    distribution: str
    distribution_version: str
    status: str
    problem: str


@define
class Registry:
    """Components by kind and name. `Registry.load()` finds the installed ones; `add` takes a plugin module.

    allow: who was let in.
    """

    components: dict[tuple[str, str], list[Component]] = Factory(dict)
    notes: list[Note] = Factory(list)
    allow: AllowList = Factory(AllowList)

    @classmethod
    def load(cls, allow: str | Iterable[str] | None = None) -> Registry:
        """Walk the installed entry points.

        allow: what may add plugins beside our own, as names of distributions or "distribution:entry"; "off" for none,
        None to ask the environment variable GEN_PLUGINS (unset: all).
        """
        registry = cls(allow=AllowList.of(allow))
        strangers, seen = [], []
        for distribution, version, entries in entry_points():
            for plugin, module in entries:
                seen.append((distribution, plugin))
                if not registry.allow.admits(distribution, plugin):
                    note = f"switched off: {ALLOW} does not name {distribution}"
                    registry.notes.append(Note(plugin, module, distribution, version, "off", note))
                elif normal_name(distribution) == OWN or not sys.executable:
                    registry.add(module, plugin, distribution, version)
                else:
                    strangers.append((plugin, module, distribution, version))
        registry._ask(strangers)
        for line in registry.allow.strangers(seen):
            registry.notes.append(Note(ALLOW, "", "", "", "absent", line))
        return registry

    def _ask(self, strangers: list[tuple[str, str, str, str]]) -> None:
        if not strangers:
            return
        from gen_core.plugin_probe import Broken, Entry, ask  # where there are strangers only

        entries = [Entry(*stranger) for stranger in strangers]
        for entry, offers in zip(entries, ask(entries)):
            at = (entry.plugin, entry.module, entry.distribution, entry.version)
            if isinstance(offers, Broken):
                self.notes.append(Note(*at, "broken", str(offers)))
            else:
                self._take(offers, at)

    def add(self, module: str | ModuleType, plugin: str, distribution: str, version: str) -> None:
        """Take in one plugin, imported here; whatever goes wrong becomes a note and adds no component."""
        at = (plugin, module if isinstance(module, str) else module.__name__, distribution, version)
        try:
            offers = offers_of(module, distribution, version)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: no plugin ends the program
            self.notes.append(Note(*at, "broken", said(error)))
        else:
            self._take(offers, at)

    def _take(self, offers: Offers, at: tuple[str, str, str, str]) -> None:
        found, warnings = offers
        self.notes += [Note(*at, "warning", problem) for problem in warnings]
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
