"""Reads events.jsonl while a run writes it: the points of each fit that are new, and the fits that went back.

A fit that goes on from an earlier checkpoint has the lines beyond it taken out, which puts a new file in the place of
the old one. The old one is held open until then, so that a new file is never taken for it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

from gen_core.engine.events import whole_lines
from gen_core.tracker import KINDS, Point

News = list[tuple[str, list[Point], bool]]
"""(stage, points, anew) as `Tracker.points` takes them."""


class Following:
    """Of one events.jsonl."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._known: dict[str, list[Point]] = {}

    def news(self) -> News:
        """What is new since the last call; a line that is half written waits for the next."""
        found: dict[str, list[Point]] = {}
        if self._file is None or self._replaced():
            before, self._known = self._known, {}
            self._open()
            self._take_into(found)
            return [
                (stage, *_since(before.get(stage, []), found.get(stage, [])))
                for stage in {**before, **found}
                if before.get(stage) != found.get(stage)
            ]
        first = set(self._known)
        self._take_into(found)
        return [(stage, points, stage not in first) for stage, points in found.items()]

    def _open(self) -> None:
        self.close()
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            self._file = None

    def _replaced(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return True
        assert self._file is not None
        held = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino) or now.st_size < self._file.tell()

    def _take_into(self, found: dict[str, list[Point]]) -> None:
        """Read on to the last newline."""
        if self._file is None:
            return
        at = self._file.tell()
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.seek(at + whole)
        for event in whole_lines(data[:whole].decode(errors="replace")):
            point = point_of(event)
            if point is not None:
                found.setdefault(event["stage"], []).append(point)
                self._known.setdefault(event["stage"], []).append(point)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _since(before: list[Point], now: list[Point]) -> tuple[list[Point], bool]:
    follows = bool(before) and now[: len(before)] == before
    return (now[len(before) :], False) if follows else (now, True)


def point_of(event: dict[str, Any]) -> Point | None:
    """The point of an event; None when it is of another kind or holds no finite number."""
    if event["kind"] not in KINDS or not event.get("stage"):
        return None
    values = {name: float(value) for name, value in event.get("values", {}).items() if _is_number(value)}
    return Point(event["kind"], event["step"], values, event.get("time", 0.0)) if values else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
