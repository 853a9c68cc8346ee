"""The run's diary: one JSON object a line in events.jsonl, readable at any moment and after any kill.

Kinds a fit writes, with `step` the optimizer steps done: "train" (averages since the last such line: loss, the
terms and logs of the first group by bare name, of other groups as group/name, grad_norm, lr), "validation",
"epoch" (what `epoch_started` returned, before the epoch's first step), "checkpoint", "resume", "fallback",
"out-of-memory", "failed", "fitted".
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.errors import RunError


class EventLog:
    """Appends lines with at least kind, stage, step and values; curves are drawn from them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)

    def write(
        self, kind: str, stage: str = "", step: int = 0, values: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Append one line. step: optimizer steps done. NaN and infinities become null: they are not JSON."""
        line = {"kind": kind, "stage": stage, "step": step, "values": plain(values or {}), **plain(more)}
        line["time"] = round(time.time(), 3)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot write: {error.strerror or error}") from error

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        return read_events(self.path)

    def drop_after(self, stage: str, step: int, at: Collection[str] = ()) -> int:
        """Forget the lines of `stage` beyond `step`, which a resumed fit will write again; returns how many.

        at: the kinds that go at exactly `step` too, because their work was not part of the checkpoint.
        """

        def stays(event: dict[str, Any]) -> bool:
            there = event.get("step", 0)
            again = there > step or (there == step and event["kind"] in at)
            return event.get("stage") != stage or not again

        events = self.read()
        kept = [event for event in events if stays(event)]
        if len(kept) < len(events):
            lines = (json.dumps(e, ensure_ascii=False, allow_nan=False) + "\n" for e in kept)
            atomic.write_text(self.path, "".join(lines))
        return len(events) - len(kept)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of an events.jsonl; a torn line (of a process killed while writing) is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and "kind" in event:
            events.append(event)
    return events


def _cut_torn_line(path: Path) -> None:
    """Cut what follows the last newline, so that the next line does not run into it."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def plain(data: Any) -> Any:
    """Numbers, strings, lists and dicts as JSON knows them."""
    if isinstance(data, dict):
        return {str(k): plain(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(v) for v in data]
    if data is None or isinstance(data, (str, bool, int)):
        return data
    if isinstance(data, Path):
        return str(data)
    number = float(data)
    return number if math.isfinite(number) else None
