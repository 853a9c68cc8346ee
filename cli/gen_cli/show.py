"""Printing: JSON, aligned columns, figures and durations in words. Plain text, so that listings start at once."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

import typer

GAP = "  "


_document: TextIO | None = None  # where a JSON document goes, when that is not sys.stdout


def keep_stdout_for_json() -> None:
    """From now on whatever prints, a library in C too, prints to stderr; stdout is for `as_json` alone."""
    global _document
    try:
        sys.stdout.flush()
        _document = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
    except (OSError, ValueError):  # no such files: a closed stdout, or one replaced by an object
        _document = None


def as_json(data: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str), file=_document)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str], empty: str = "nothing found") -> None:
    """Rows as aligned columns under a head; on a terminal the last column wraps, in a pipe lines stay whole."""
    if not rows:
        typer.echo(empty)
        return
    cells = [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    left = sum(w + len(GAP) for w in widths[:-1])
    room = shutil.get_terminal_size().columns - left if sys.stdout.isatty() else 0
    for k, line in enumerate([list(columns), *cells]):
        head = "".join(text.ljust(w) + GAP for text, w in zip(line[:-1], widths))
        last = textwrap.wrap(line[-1], room) if room >= 24 else [line[-1]]
        text = ("\n" + " " * left).join(last or [""])
        typer.echo(typer.style((head + text).rstrip(), bold=True) if k == 0 else (head + text).rstrip())


def facts(data: dict[str, Any]) -> None:
    """Keys and values, one a line, aligned; empty values are left out."""
    shown = {k: _cell(v) for k, v in data.items() if v not in (None, "", [], {})}
    width = max((len(k) for k in shown), default=0)
    for key, value in shown.items():
        typer.echo(f"{key.ljust(width)}{GAP}{value}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(v) for v in value)
    return str(value)


def number(value: float | None, digits: int = 4) -> str:
    """A figure with so many significant digits; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def count(n: int) -> str:
    """562_700_000 -> "562.7 M"."""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= limit:
            return f"{n / (1000 if unit == 'k' else limit):.1f} {unit}"
    return str(n)


def duration(seconds: float | None) -> str:
    """Seconds in words: "0.8 s", "42 s", "3 min 20 s", "5 h 12 min"."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def about(figure: float, least: float) -> str:
    """A forecast, which was rounded to `least`: nothing costs nothing."""
    return f"about {figure:g}" if figure >= least else f"< {least:g}"


def sampling(plan: dict[str, Any]) -> None:
    """What so many samples take."""
    shard = f" of shard {plan['shard']}" if "shard" in plan else ""
    folders = "one folder" if plan["folders"] == 1 else f"{plan['folders']} folders"
    files = f"at least {plan['volumes']}" if plan["files"] is None else plan["files"]
    chunks = f"{plan['chunks']} chunks of {plan['batch']}"
    typer.echo(f"samples{shard}: {plan['volumes']} in {chunks}; {files} files in {folders}")
    for name, gib in plan["disk_gib"].items():
        typer.echo(f"disk, {name}: {about(gib, 0.001)} GiB")
    if plan["hours"] is not None:
        typer.echo(f"time of sampling: {duration(3600 * plan['hours'])} in one process; shards divide it")
    for line in plan["basis"]:
        typer.echo(f"basis: {line}")


def scores(results: dict[str, Any]) -> None:
    """The values of every metric as a table, flags underneath."""
    rows, flags = [], []
    for name, result in results.items():
        for v in result.get("values", []):
            low, high = v.get("low"), v.get("high")
            rows.append(
                {
                    "metric": name,
                    "score": v["name"],
                    "source": v.get("source", ""),
                    "against": v.get("against", ""),
                    "value": number(v["value"]),
                    "interval": "" if low is None or high is None else f"{number(low)} .. {number(high)}",
                    "floor": "" if v.get("floor") is None else number(v["floor"]),
                    "n": v.get("n") or "",
                }
            )
            if v.get("flag"):
                flags.append(f"{name}, {v['name']} ({v.get('source', '')}): {v['flag']}")
    table(
        rows,
        ["metric", "score", "source", "against", "value", "interval", "floor", "n"],
        "this recipe has no metrics",
    )
    for line in dict.fromkeys(flags):
        typer.echo(f"! {line}")
