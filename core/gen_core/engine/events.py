"""The run's diary: one JSON object a line in events.jsonl, readable at any moment and after any kill.

Kinds a fit writes, with `step` the optimizer steps done: "train" (averages since the last such line: loss, the
terms and logs of the first group by bare name, of other groups as group/name, grad_norm, lr), "validation",
"epoch" (what `epoch_started` returned, before the epoch's first step), "checkpoint", "resume", "fallback",
"out-of-memory", "failed", "fitted".

Lines are appended and not flushed: a power cut may cost the last ones, and a fit that goes on from an earlier
checkpoint writes them again. Each ends with the CRC-32 of the rest, so a line that was torn or changed is left out.
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.errors import RunError

CHECK = "crc"  # the key of a line's checksum


class EventLog:
    """Appends lines with at least kind, stage, step and values; curves are drawn from them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        atomic.make_folder(path.parent)
        _cut_torn_line(path)

    def write(
        self, kind: str, stage: str = "", step: int = 0, values: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Append one line. step: optimizer steps done. NaN and infinities become null: they are not JSON."""
        line = {"kind": kind, "stage": stage, "step": step, "values": plain(values or {}), **plain(more)}
        line["time"] = round(time.time(), 3)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(line))
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
            atomic.write_text(self.path, "".join(_line(event) for event in kept))
        return len(events) - len(kept)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of an events.jsonl; one torn by a kill, or damaged later, is left out."""
    return whole_lines(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else []


def whole_lines(text: str) -> list[dict[str, Any]]:
    """The events of a piece of such a file."""
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
            whole = isinstance(event, dict) and "kind" in event and event.pop(CHECK, None) in (None, _check(event))
        except (ValueError, RecursionError):
            continue
        if whole:
            events.append(event)
    return events


def _line(event: dict[str, Any]) -> str:
    return _text({**event, CHECK: _check(event)}) + "\n"


def _check(event: dict[str, Any]) -> str:
    return f"{zlib.crc32(_text(event).encode()):08x}"


def _text(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, allow_nan=False)


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
