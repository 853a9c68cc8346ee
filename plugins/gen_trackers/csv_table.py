"""The tracker `csv`: every curve and score of a run in one tidy table, one value a row, replaced as a whole.

Columns: stage ("fit.codec", ...; "evaluate"), kind ("train", "validation", "epoch"; "score"), step (empty for scores),
name, source, against, value, low, high (the ends of a score's interval). No times, so the table depends on what
`events.jsonl` says alone, however often a run was killed.
"""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.tracker import Point, Score, TrackedRun, Tracker
from gen_trackers.tracker_options import Csv

FILE = "scalars.csv"
COLUMNS = ("stage", "kind", "step", "name", "source", "against", "value", "low", "high")
SHARE = 0.02  # of the time that writing may take: a long table is not written with every look


class CsvTable(Tracker):
    """trackers/csv/scalars.csv."""

    def __init__(self, options: Csv, context: Any) -> None:
        self._points: dict[str, list[Point]] = {}
        self._scores: list[Score] = []
        self._next = 0.0  # not written before this time

    def start(self, run: TrackedRun) -> None:
        self._path = run.folder / FILE

    def points(self, stage: str, points: list[Point], anew: bool) -> None:
        self._points[stage] = points if anew else self._points[stage] + points

    def flush(self) -> None:
        if time.monotonic() >= self._next:
            self._write()

    def scores(self, scores: list[Score]) -> None:
        self._scores = scores

    def end(self, state: str, report: Path | None) -> None:
        self._write()

    def _write(self) -> None:
        began = time.monotonic()
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for stage, points in self._points.items():
            for point in points:
                for name, value in point.values.items():
                    table.writerow((stage, point.kind, point.step, name, "", "", repr(value), "", ""))
        for s in self._scores:
            ends = ("" if end is None else repr(end) for end in (s.low, s.high))
            table.writerow(("evaluate", "score", "", f"{s.metric}/{s.name}", s.source, s.against, repr(s.value), *ends))
        atomic.write_text(self._path, text.getvalue())
        now = time.monotonic()
        self._next = now + (now - began) / SHARE
