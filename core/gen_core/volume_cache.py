"""Preprocessed volumes on disk: memory-mapped .npy files, keyed by what they were made from and how.

An entry is `<key>.npy` and `<key>.json` (facts, shape, SHA-256 of the content); the JSON is written last, so an
entry with it is whole. A damaged entry is made again, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.mapped import blocks, new_array, release

WHOLE_FILE = 1 << 30  # files up to this size are hashed whole
END_BYTES = 1 << 20  # of larger ones the head and the tail, with size and time

_MAKING = threading.RLock()  # one entry at a time in a process: temporary names bear the process id only


class Cache:
    """A folder of entries. `folder` is shared between runs and may be deleted at any time."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fetch(
        self,
        key: str,
        shape: Callable[[], tuple[int, ...]],
        dtype: str,
        fill: Callable[[np.ndarray], dict[str, Any]],
        verify: bool = False,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The array of an entry (memory-mapped, read only) and its facts.

        shape, fill: called when there is no usable entry; `fill` writes into the array given and returns JSON facts.
        verify: hold the content against its hash too, not only its shape.
        """
        path = self.folder / key[:2] / f"{key}.npy"
        with _MAKING:
            found = self._load(path, dtype, verify)
            if found is None:
                self._make(path, shape(), dtype, fill)
                found = self._load(path, dtype, False)
        assert found is not None, "an entry just written can be read"
        return found

    def _make(
        self, path: Path, shape: tuple[int, ...], dtype: str, fill: Callable[[np.ndarray], dict[str, Any]]
    ) -> None:
        with atomic.replacing(path) as beside:
            out = new_array(beside, dtype, shape)
            facts = fill(out)
            out.flush()
            content = array_hash(out)
            del out
        atomic.write_json(path.with_suffix(".json"), {"content": content, "shape": [*shape], **facts})

    def _load(self, path: Path, dtype: str, verify: bool) -> tuple[np.ndarray, dict[str, Any]] | None:
        if not path.exists() or not path.with_suffix(".json").exists():
            return None
        try:
            facts = atomic.json_object(path.with_suffix(".json"))
            array = np.lib.format.open_memmap(path, "r")
            if [*array.shape] != facts["shape"] or array.dtype != np.dtype(dtype):
                raise ValueError(f"holds {array.shape} {array.dtype}")
            if verify and array_hash(array) != facts["content"]:
                raise ValueError("its content does not match its hash")
            facts["content"]  # a missing key is damage too
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            warnings.warn(f"cache entry {path.name} is damaged ({error}); made again", stacklevel=3)
            return None
        return array, facts


def array_hash(array: np.ndarray) -> str:
    """SHA-256 over shape, type and C-contiguous content, in blocks."""
    digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
    for block in blocks(array):
        digest.update(np.ascontiguousarray(block).view(np.uint8))
    release(array)
    return digest.hexdigest()


def key_of(**facts: Any) -> str:
    """A cache key: SHA-256 of the facts as JSON, keys sorted."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def source_hash(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file's content; of files over 1 GiB that of size, time, head and tail.

    cache: a folder that remembers hashes by path, size and time, so that a large set is not read twice.
    """
    stat = path.stat()
    known = None
    if cache is not None and stat.st_size > END_BYTES:
        name = key_of(path=str(path.resolve()), size=stat.st_size, time=stat.st_mtime_ns)
        known = cache / "sources" / name[:2] / name
        if known.exists():
            text = known.read_text()
            if len(text) == 64:
                return text
    with path.open("rb") as file:
        if stat.st_size <= WHOLE_FILE:
            value = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
            digest.update(file.read(END_BYTES))
            file.seek(-END_BYTES, 2)
            digest.update(file.read(END_BYTES))
            value = digest.hexdigest()
    if known is not None:
        atomic.write_text(known, value)
    return value
