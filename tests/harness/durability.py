"""From the trace of a run: was every file it left flushed, renamed into place, and its folder flushed?

What a power cut may not take: a file's content (its own flush, after the last write and before the rename), its name
(the flush of its folder, after the rename), and the folders it lies in (the flush of the folder above, after each was
made).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

APPENDED = ("events.jsonl",)  # a diary: lines are appended; a torn or lost end costs lines, never a result
LOCKS = (".lock", ".computing")  # empty
UNFLUSHED = (".cache/features/",)  # each file holds a digest of its content: what is damaged is computed again


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The operations that `file_operations.Traced` recorded."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def unpublished(trace: list[dict[str, Any]], root: Path) -> list[str]:
    """One line for each file or folder below `root` that is there now and may be lost or half in a power cut."""
    root = root.resolve()
    there = [path for path in sorted(root.rglob("*")) if not path.name.startswith("small.toml")]
    found = []
    for path in there:
        name = str(path.relative_to(root))
        if path.name in APPENDED + LOCKS or any(part in name for part in UNFLUSHED):
            continue
        problem = _folder_problem(trace, path) if path.is_dir() else _file_problem(trace, path)
        if problem and not any(part in f"{name}/" for part in UNFLUSHED):
            found.append(f"{name}: {problem}")
    return found


def _file_problem(trace: list[dict[str, Any]], path: Path) -> str:
    """Walk back from the name it has now to the names it had; each rename must have come after a flush."""
    at, name = len(trace), str(path)
    moved = False
    while True:
        step = _last_rename_onto(trace[:at], name)
        if step is None:
            break
        n, former = step
        target = trace[n]["target"]
        if not _flushed(trace[n:at], str(Path(target).parent)):
            return f"the folder was not flushed after operation {n}, the rename of {Path(former).name}"
        at, name, moved = n, former, True
    if not moved:
        return "written in place, not renamed into place"
    written = [op["n"] for op in trace[:at] if op["path"] == name and op["kind"] in ("open", "write", "native write")]
    if not written:
        return "nothing in the trace wrote it"
    if not _flushed(trace[written[-1] : at], name):
        return f"renamed without a flush after operation {written[-1]}, which wrote it"
    return ""


def _last_rename_onto(trace: list[dict[str, Any]], name: str) -> tuple[int, str] | None:
    """(operation, former name) of the last rename of this file, or of a folder it lies in."""
    for op in reversed(trace):
        if op["kind"] == "rename" and (name == op["target"] or name.startswith(op["target"] + "/")):
            return op["n"], op["path"] + name.removeprefix(op["target"])
    return None


def _folder_problem(trace: list[dict[str, Any]], path: Path) -> str:
    name, at = str(path), 0
    for op in trace:
        if (op["kind"] == "mkdir" and op["path"] == name) or (op["kind"] == "rename" and op["target"] == name):
            at = op["n"]
    return "" if _flushed(trace[at:], str(path.parent)) else f"{path.parent.name}/ was not flushed after it was made"


def _flushed(trace: list[dict[str, Any]], name: str) -> bool:
    return any(op["kind"] == "fsync" and op["path"] == name for op in trace)
