"""Files that are either whole or absent: written beside, flushed, renamed, folder flushed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUFFIX = ".partial"  # of files and folders on their way; leftovers are swept by `sweep`
NATIVE = ".tmp" + 6 * "[0-9A-Za-z]"  # what safetensors' own writer calls a file on its way


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Flush a file's content."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder with all above it; the name of each new one is flushed, so that a power cut does not take it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; on success it replaces `path`, on failure nothing is left.

    The temporary name keeps the suffix of `path`, because some writers look at it.
    """
    make_folder(path.parent)
    beside = path.with_name(f".{path.stem}{SUFFIX}{os.getpid()}{path.suffix}")
    try:
        yield beside
        sync_file(beside)
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON, keys in the order given; NaN is refused: it is not JSON."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises: OSError, ValueError for anything else, however deep it is nested."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(data, dict):
        raise ValueError(f"a JSON {type(data).__name__}, no object")
    return data


def publish_folder(beside: Path, folder: Path) -> None:
    """Flush every file of `beside` and rename it to `folder`, which must not exist."""
    for file in sorted(beside.rglob("*")):
        sync_file(file) if file.is_file() else sync_folder(file)
    sync_folder(beside)
    os.rename(beside, folder)
    sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that it is either all there or gone: what a kill leaves of it bears the name of a leftover."""
    import shutil

    if not folder.is_dir():
        return
    going = folder.with_name(f".{folder.name}{SUFFIX}-old{os.getpid()}")
    shutil.rmtree(going, ignore_errors=True)
    folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def sweep(folder: Path) -> list[Path]:
    """Remove what a killed process left half-written under `folder`; returns what was removed."""
    import shutil

    removed = []
    for path in sorted([*folder.rglob(f"*{SUFFIX}*"), *folder.rglob(NATIVE)]):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed
