"""Rendered volumes of a split on disk: one memory-mapped .npy of float32, masks as bits, hashes as JSON.

An entry is a folder that appears whole or not at all. Volumes are pure functions of their index, so a missing or
damaged entry is simply rendered again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
from attrs import frozen
from gen_core.atomic import SUFFIX, publish_folder
from gen_core.volume import content_hash
from numpy.typing import NDArray

Volume = tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]
Progress = Callable[[int, int], None]

_PARALLEL_VOXELS = 4 << 20  # below this a second process costs more than it gives
_STALLED_S = 300.0  # no chunk finished for so long: the workers are given up


@frozen(eq=False)
class _Entry:
    volumes: NDArray[np.float32]  # (n, C, D, H, W), memory-mapped
    bits: NDArray[np.uint8]  # (n, masks, ceil(H W / 8)), memory-mapped
    hashes: list[str]  # content hash of each volume
    crcs: list[int]  # of each volume's mask bits


class Cache:
    """`n` volumes of `shape` (C, D, H, W) with `masks`, made by `render(i)`, kept in `folder`."""

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int, int],
        masks: tuple[str, ...],
        n: int,
        render: Callable[[int], Volume],
        workers: int = 1,
    ):
        self.folder, self.shape, self.masks, self.n = folder, shape, masks, n
        self.render, self.workers = render, workers
        self._entry: _Entry | None = None
        self._checked = np.zeros(n, bool)

    def fill(self, progress: Progress | None = None) -> list[str]:
        """Render the entry if it is missing or if any volume fails its hash; returns the hashes."""
        entry = self._load()
        if entry is None or not all(self._sound(entry, i) for i in range(self.n)):
            entry = self._make(progress)
        self._checked[:] = True
        return entry.hashes

    def read(self, i: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]], str]:
        """(x, masks, hash) of volume i: the stored one, or rendered again if that one is damaged."""
        entry = self._load() or self._make(None)
        if not self._checked[i]:
            if not self._sound(entry, i):
                x, masks = self.render(i)
                return x, masks, content_hash(x)
            self._checked[i] = True
        flat = np.unpackbits(entry.bits[i], axis=-1, count=self.shape[2] * self.shape[3]).astype(bool)
        masks = {name: flat[k].reshape(1, *self.shape[2:]) for k, name in enumerate(self.masks)}
        return np.array(entry.volumes[i]), masks, entry.hashes[i]

    def _load(self) -> _Entry | None:
        """The entry if it is there with the right shapes."""
        if self._entry is not None:
            return self._entry
        try:
            index = json.loads((self.folder / "index.json").read_text())
            volumes = np.load(self.folder / "volumes.npy", mmap_mode="r")
            bits = np.load(self.folder / "masks.npy", mmap_mode="r")
        except (OSError, ValueError):  # missing, truncated, not JSON, not .npy
            return None
        if volumes.shape != (self.n, *self.shape) or volumes.dtype != np.float32:
            return None
        if bits.shape != (self.n, len(self.masks), self._mask_bytes) or bits.dtype != np.uint8:
            return None
        if len(index.get("hashes", ())) != self.n or len(index.get("crcs", ())) != self.n:
            return None
        self._entry = _Entry(volumes, bits, index["hashes"], index["crcs"])
        return self._entry

    @property
    def _mask_bytes(self) -> int:
        return -(-self.shape[2] * self.shape[3] // 8)

    def _sound(self, entry: _Entry, i: int) -> bool:
        return (
            content_hash(entry.volumes[i]) == entry.hashes[i] and zlib.crc32(entry.bits[i]) == entry.crcs[i]
        )

    def _make(self, progress: Progress | None) -> _Entry:
        """Render everything beside, publish it; what another process published meanwhile is kept."""
        beside = self.folder.with_name(f".{self.folder.name}{SUFFIX}{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            create = np.lib.format.open_memmap
            volumes = create(beside / "volumes.npy", "w+", np.float32, (self.n, *self.shape))
            bits = create(beside / "masks.npy", "w+", np.uint8, (self.n, len(self.masks), self._mask_bytes))
            done = _render_all(_Task(self.render, self.masks, volumes, bits), self.workers, progress)
            volumes.flush()
            bits.flush()
            del volumes, bits
            index = {"hashes": [d[0] for d in done], "crcs": [d[1] for d in done]}
            (beside / "index.json").write_text(json.dumps(index))
            self._entry = None
            shutil.rmtree(self.folder, ignore_errors=True)  # an entry that failed its check
            try:
                publish_folder(beside, self.folder)
            except OSError:
                if self._load() is None:  # not a rival's finished entry: disk full, folder unwritable
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        entry = self._load()
        if entry is None:
            raise OSError(f"{self.folder}: the cache entry just written cannot be read back")
        return entry


@frozen(eq=False)
class _Task:
    render: Callable[[int], Volume]
    masks: tuple[str, ...]
    volumes: NDArray[np.float32]
    bits: NDArray[np.uint8]

    def __call__(self, i: int) -> tuple[str, int]:
        x, masks = self.render(i)
        self.volumes[i] = x
        self.bits[i] = np.packbits(np.stack([masks[name].reshape(-1) for name in self.masks]), axis=-1)
        return content_hash(x), zlib.crc32(self.bits[i])


_task: _Task | None = None  # what forked workers inherit: nothing is pickled but numbers


def _chunk(indices: range) -> list[tuple[str, int]]:
    assert _task is not None
    return [_task(i) for i in indices]


def _render_all(task: _Task, workers: int, progress: Progress | None) -> list[tuple[str, int]]:
    """Do every volume, in forked processes where that pays; what they leave undone is done here."""
    n = len(task.volumes)
    done: dict[int, tuple[str, int]] = {}
    workers = min(workers, os.cpu_count() or 1)
    fork = "fork" in multiprocessing.get_all_start_methods()
    if workers > 1 and fork and task.volumes.size >= _PARALLEL_VOXELS and n > 1:
        done = _render_forked(task, workers, progress)
    for i in range(n):
        if i not in done:
            done[i] = task(i)
            if progress:
                progress(len(done), n)
    return [done[i] for i in range(n)]


def _render_forked(task: _Task, workers: int, progress: Progress | None) -> dict[int, tuple[str, int]]:
    """Chunks of volumes in forked processes, which write into the shared map; returns what they finished.

    The children use numpy and scipy only, which survive a fork. A child that dies or stalls ends the attempt.
    """
    global _task
    n, done = len(task.volumes), {}
    size = max(1, min(16, n // (4 * workers)))
    chunks = [range(k, min(k + size, n)) for k in range(0, n, size)]
    _task = task
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
    try:
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside threads; ours hold no lock that numpy needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pending = {pool.submit(_chunk, c): c for c in chunks}
        while pending:
            finished, _ = wait(pending, timeout=_STALLED_S, return_when=FIRST_COMPLETED)
            if not finished:
                break
            for future in finished:
                done.update(zip(pending.pop(future), future.result()))
            if progress:
                progress(len(done), n)
    except (OSError, RuntimeError):  # no process to be had, or one died (BrokenProcessPool is a RuntimeError)
        pass
    finally:
        _task = None
        if len(done) < n:
            for process in list((pool._processes or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
    return done
