"""Plain data back to TOML: the locked recipe, and keys and values as messages show them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: dict[str, Any], doc: str = "") -> str:
    """TOML of nested tables; None is left out, because TOML has no word for it."""
    lines = [f"# {line}".rstrip() for line in doc.splitlines()]
    if lines:
        lines.append("")
    _table(data, (), lines)
    return "\n".join(lines).strip() + "\n"


def _table(data: dict[str, Any], at: tuple[str, ...], lines: list[str]) -> None:
    for key, value in data.items():
        if value is not None and not isinstance(value, dict):
            lines.append(f"{key_text((key,))} = {value_text(value)}")
    for key, value in data.items():
        if isinstance(value, dict):
            inner = (*at, key)
            # a table of tables only needs no header of its own, an empty one does
            if not value or any(not isinstance(v, dict) and v is not None for v in value.values()):
                lines += ["", f"[{key_text(inner)}]"]
            _table(value, inner, lines)


def key_text(path: Iterable[str]) -> str:
    """A dotted key, quoted where TOML asks for it."""
    return ".".join(part if BARE.fullmatch(part) else _string(part) for part in path)


def value_text(value: Any) -> str:
    """One value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(v) for v in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key_text((k,))} = {value_text(v)}" for k, v in value.items() if v is not None)
        return f"{{{' ' + inner + ' ' if inner else ''}}}"
    return repr(value) if isinstance(value, int | float) else str(value)


def _string(text: str) -> str:
    # JSON's escapes are TOML's; what it leaves bare and nobody sees (DEL, separators, directions) is escaped as well
    return printable(json.dumps(text, ensure_ascii=False))


def printable(text: str) -> str:
    """Text fit for one line of a terminal: what cannot be printed is escaped as TOML does it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 65536 else f"\\U{ord(c):08x}" for c in text)
