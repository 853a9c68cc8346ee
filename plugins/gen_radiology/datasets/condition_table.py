"""Conditions of volumes from a CSV or TSV table, by subject or by id: numbers and classes."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.errors import DataError

KEYS = ("id", "subject")  # of a row; a row by id goes before one by subject
UNKNOWN = {"", "na", "n/a", "nan", "null", "unknown", "?"}
MAX_BYTES = 64 << 20


@define(eq=False)
class ConditionTable:
    """rows: key column -> key -> {condition: float (NaN = unknown) or class index (-1 = unknown)}.

    classes: names of each class, in the order of their index.
    """

    path: Path
    classes: dict[str, tuple[str, ...]]
    rows: dict[str, dict[str, dict[str, Any]]] = Factory(dict)
    scalars: tuple[str, ...] = ()

    def of(self, id: str, subject: str) -> dict[str, Any] | None:
        """The conditions of a volume, None where no row is its own."""
        by_id, by_subject = self.rows.get("id", {}), self.rows.get("subject", {})
        return by_id.get(id, by_subject.get(subject))

    def unknown(self) -> dict[str, Any]:
        """Every condition of the table, none of them known."""
        return {**dict.fromkeys(self.scalars, math.nan), **dict.fromkeys(self.classes, -1)}


def read_table(path: Path, scalars: tuple[str, ...], classes: dict[str, tuple[str, ...]]) -> ConditionTable:
    """The named columns of a table with a header line; the delimiter is a tab, a semicolon or a comma.

    classes: column -> names; without names, those of the column, sorted. Empty cells, "NA" and the like are unknown.
    Raises: DataError naming file, line and column: no such column, no key, a number that is none, a class that is not
    among its names, a key twice.
    """
    header, lines = _lines(path)
    keys = [key for key in KEYS if key in header]
    if not keys:
        raise DataError(f"{path}: the table needs a column 'id' or 'subject', it has {', '.join(header)}")
    for column in (*scalars, *classes):
        if column not in header:
            raise DataError(f"{path}: dataset.table has no column '{column}', it has {', '.join(header)}")
    names = {c: tuple(given) or _found(lines, header.index(c)) for c, given in classes.items()}
    table = ConditionTable(path, names, {key: {} for key in keys}, tuple(scalars))
    for number, cells in lines:
        cell = dict(zip(header, cells))
        values: dict[str, Any] = {c: _number(path, number, c, cell[c]) for c in scalars}
        values |= {c: _class(path, number, c, cell[c], names[c]) for c in classes}
        given = [key for key in keys if cell[key]]
        if not given:
            raise DataError(f"{path}: line {number} has no {' or '.join(keys)}")
        known = table.rows[given[0]]  # a row with an id is about that volume alone
        if cell[given[0]] in known:
            raise DataError(f"{path}: line {number}: {given[0]} '{cell[given[0]]}' stands in two rows")
        known[cell[given[0]]] = values
    return table


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header's names, and (line number, cells) of each row that is not empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: more than {MAX_BYTES >> 20} MiB: no table of conditions")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: dataset.table is no UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: dataset.table cannot be read: {error.strerror or error}") from None
    first = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=lambda d: (first.count(d), d == ","))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, [c.strip() for c in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: dataset.table is no CSV: {error}") from None
    rows = [(n, cells) for n, cells in rows if any(cells)]
    if not rows:
        raise DataError(f"{path}: dataset.table is empty")
    header = rows[0][1]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise DataError(f"{path}: column '{twice}' is there twice")
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(f"{path}: line {number} has {len(cells)} cells, the header {len(header)}")
    return header, rows[1:]


def _found(lines: list[tuple[int, list[str]]], column: int) -> tuple[str, ...]:
    return tuple(sorted({cells[column] for _, cells in lines if cells[column].lower() not in UNKNOWN}))


def _number(path: Path, line: int, column: str, text: str) -> float:
    if text.lower() in UNKNOWN:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise DataError(f"{path}: line {line}: {column} is '{text[:40]}', expected a number")
    return value


def _class(path: Path, line: int, column: str, text: str, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text)
    if text.lower() in UNKNOWN:
        return -1
    raise DataError(f"{path}: line {line}: {column} is '{text[:40]}', expected one of {', '.join(names)}")
