"""Text tables of cells with a header line, as spreadsheets write them: CSV, TSV, or with semicolons."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from gen_core.component import shortened
from gen_core.errors import DataError

MAX_BYTES = 64 << 20

Row = tuple[int, list[str]]


def read_cells(path: Path, what: str) -> tuple[list[str], list[Row]]:
    """The header's names, and (line number, cells) of each row that is not empty, as many cells as the header has.

    what: whose table it is, for the messages. The delimiter is a tab, a semicolon or a comma, whichever the header
    has most of; blanks around cells are dropped. Raises: DataError naming file and line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: {what} has more than {MAX_BYTES >> 20} MiB: no table of conditions")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: {what} is no UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: {what} cannot be read: {error.strerror or error}") from None
    first = text.split("\n", 1)[0]
    delimiter = max("\t;,", key=lambda d: (first.count(d), d == ","))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, [c.strip() for c in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: {what} is no CSV: {error}") from None
    rows = [(n, cells) for n, cells in rows if any(cells)]
    if not rows:
        raise DataError(f"{path}: {what} is empty")
    header, seen = rows[0][1], set()
    for name in filter(None, header):
        if name in seen:
            raise DataError(f"{path}: column '{shortened(name)}' is there twice")
        seen.add(name)
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(f"{path}: line {number} has {len(cells)} cells, the header {len(header)}")
    return header, rows[1:]


def named(header: list[str]) -> str:
    """The columns of a table, for a message."""
    return shortened(", ".join(header[:50]), 400)
