"""Conditions of volumes from a CSV or TSV table, by subject or by id: numbers and classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.component import shortened
from gen_core.errors import DataError
from gen_core.table_file import named, read_cells

KEYS = ("id", "subject")  # of a row; a row by id goes before one by subject
UNKNOWN = {"", "na", "n/a", "nan", "null", "unknown", "?"}


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
    header, lines = read_cells(path, "dataset.table")
    keys = [key for key in KEYS if key in header]
    if not keys:
        raise DataError(f"{path}: the table needs a column 'id' or 'subject', it has {named(header)}")
    for column in (*scalars, *classes):
        if column not in header:
            raise DataError(f"{path}: dataset.table has no column '{column}', it has {named(header)}")
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
            raise DataError(f"{path}: line {number}: {given[0]} '{shortened(cell[given[0]])}' stands in two rows")
        known[cell[given[0]]] = values
    return table


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
        raise DataError(f"{path}: line {line}: {column} is '{shortened(text, 40)}', expected a number")
    return value


def _class(path: Path, line: int, column: str, text: str, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text)
    if text.lower() in UNKNOWN:
        return -1
    raise DataError(f"{path}: line {line}: {column} is '{shortened(text, 40)}', expected one of {named(list(names))}")
