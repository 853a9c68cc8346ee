"""Which installed distributions offer plugins, and which of them the user lets in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import metadata

from attrs import frozen

from gen_core.component import OWN, did_you_mean, normal_name
from gen_core.hooks import GROUP

ALLOW = "GEN_PLUGINS"  # environment: what may add plugins beside our own; "off" or nothing at all = only our own
OFF = {"off", "none", "0", "false", "no"}


@frozen
class AllowList:
    """Distributions, or one entry point of one as "distribution:entry". names: None = all are let in."""

    names: frozenset[str] | None = None
    given: str = ""  # in the user's words

    @classmethod
    def of(cls, allow: str | Iterable[str] | None) -> AllowList:
        """From a comma list or names; None asks the environment, where an unset variable lets all in."""
        if allow is None:
            allow = os.environ.get(ALLOW)
            if allow is None:
                return cls()
        names = [n.strip() for n in (allow.split(",") if isinstance(allow, str) else allow)]
        names = [n for n in names if n]
        if len(names) == 1 and names[0].lower() in OFF:
            return cls(frozenset(), names[0])
        return cls(frozenset(map(_normal, names)), ", ".join(names))

    def admits(self, distribution: str, plugin: str) -> bool:
        """Whether this entry point may be loaded; our own always may."""
        name = normal_name(distribution)
        return self.names is None or name == OWN or bool(self.names & {name, _normal(f"{name}:{plugin}")})

    def strangers(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """One line for each listed name that no (distribution, entry point) bears: it may be misspelt."""
        known = {OWN}
        for distribution, plugin in found:
            known |= {normal_name(distribution), _normal(f"{distribution}:{plugin}")}
        return [
            f"{ALLOW} names '{name}', which offers no plugin here{did_you_mean(name, known)}"
            for name in sorted((self.names or frozenset()) - known)
        ]

    def __str__(self) -> str:
        if self.names is None:
            return f"all that are installed ({ALLOW} is not set)"
        said = f'{ALLOW} is "{self.given}"'
        return f"gen's own and {self.given} ({said})" if self.names else f"only gen's own ({said})"


def _normal(name: str) -> str:
    distribution, colon, entry = name.partition(":")
    return normal_name(distribution) + colon + entry


def entry_points() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
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
        if not entries or normal_name(name) in seen:  # shadowed by an earlier folder on sys.path
            continue
        seen.add(normal_name(name))
        yield name, head["Version"] or "0", entries
