"""Rendered volumes of a split on disk: one memory-mapped .npy of float32, masks as bits, hashes as JSON.

An entry is a folder that appears whole or not at all. Volumes are pure functions of their index, so what is missing or
damaged is simply rendered again.
"""

from __future__ import annotations

import glob
import json
import math
import mmap
import multiprocessing
import multiprocessing.process
import os
import shutil
import signal
import socket
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gen_core.atomic import SUFFIX, json_object, make_folder, publish_folder
from gen_core.mapped import new_array
from gen_core.volume import content_hash

Volume = tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]
Progress = Callable[[int, int], None]

_PARALLEL_VOXELS = 4 << 20  # below this a second process costs more than it gives
_STALLED_S = 300.0  # no volume finished for so long: the helpers are given up


@frozen(eq=False)
class _Entry:
    volumes: np.memmap  # (n, C, D, H, W) float32
    bits: np.memmap  # (n, masks, ceil(depth H W / 8)) uint8
    hashes: list[str]  # content hash of each volume
    crcs: list[int]  # of each volume's mask bits


class Cache:
    """`n` volumes of `shape` (C, D, H, W) with `masks`, made by `render(i)`, kept in `folder`.

    Masks are (mask_depth, H, W), by default depth 1: the same in every band.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int, int],
        masks: tuple[str, ...],
        n: int,
        render: Callable[[int], Volume],
        workers: int = 1,
        mask_depth: int = 1,
    ):
        self.folder, self.shape, self.masks, self.n = folder, shape, masks, n
        self.mask_shape = (mask_depth, *shape[2:])
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
        """(x, masks, hash) of volume i: the stored one, or rendered again, and stored, if that one is damaged."""
        entry = self._load() or self._make(None)
        if not self._checked[i]:
            if not self._sound(entry, i):
                x, masks = self.render(i)
                self._mend(entry, i, x, masks)
                return x, masks, content_hash(x)
            self._checked[i] = True
        flat = np.unpackbits(entry.bits[i], axis=-1, count=math.prod(self.mask_shape)).astype(bool)
        masks = {name: flat[k].reshape(self.mask_shape) for k, name in enumerate(self.masks)}
        return np.array(entry.volumes[i]), masks, entry.hashes[i]

    def _load(self) -> _Entry | None:
        """The entry if it is there with the right shapes."""
        if self._entry is not None:
            return self._entry
        try:
            index = json_object(self.folder / "index.json")
            volumes = np.load(self.folder / "volumes.npy", mmap_mode="r")
            bits = np.load(self.folder / "masks.npy", mmap_mode="r")
        except (OSError, ValueError, EOFError):  # missing, truncated, empty, not JSON, not .npy
            return None
        if volumes.shape != (self.n, *self.shape) or volumes.dtype != np.float32:
            return None
        if bits.shape != (self.n, len(self.masks), self._mask_bytes) or bits.dtype != np.uint8:
            return None
        hashes, crcs = index.get("hashes"), index.get("crcs")
        if not isinstance(hashes, list) or not isinstance(crcs, list) or not len(hashes) == len(crcs) == self.n:
            return None
        self._entry = _Entry(volumes, bits, hashes, crcs)
        return self._entry

    def _mend(self, entry: _Entry, i: int, x: NDArray[np.float32], masks: dict[str, NDArray[np.bool_]]) -> None:
        """Put volume i back in its place, if the index tells of this one: whoever reads it meanwhile gets true bytes.

        A cache that may not be written stays as it is, and its volume is rendered whenever it is read.
        """
        bits = _packed(masks, self.masks, entry.bits.shape[2])
        if content_hash(x) != entry.hashes[i] or zlib.crc32(bits) != entry.crcs[i]:
            return
        with suppress(OSError):  # written, not mapped: a store into a map that finds no room ends the process
            for name, stored, value in (("volumes.npy", entry.volumes, x), ("masks.npy", entry.bits, bits)):
                with (self.folder / name).open("r+b") as file:
                    file.seek(stored.offset + i * value.nbytes)
                    file.write(np.ascontiguousarray(value, stored.dtype))

    @property
    def _mask_bytes(self) -> int:
        return -(-math.prod(self.mask_shape) // 8)

    def _sound(self, entry: _Entry, i: int) -> bool:
        return content_hash(entry.volumes[i]) == entry.hashes[i] and zlib.crc32(entry.bits[i]) == entry.crcs[i]

    def _make(self, progress: Progress | None) -> _Entry:
        """Render everything beside, publish it; what another process published meanwhile is kept."""
        mine = f".{self.folder.name}{SUFFIX}-{socket.gethostname()}-"
        for left in self.folder.parent.glob(f"{glob.escape(mine)}*"):
            if not _alive(left.name.removeprefix(mine)):
                shutil.rmtree(left, ignore_errors=True)
        beside = self.folder.with_name(f"{mine}{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        make_folder(beside)
        try:
            volumes = new_array(beside / "volumes.npy", np.float32, (self.n, *self.shape))
            bits = new_array(beside / "masks.npy", np.uint8, (self.n, len(self.masks), self._mask_bytes))
            task = _Task(self.render, self.masks, volumes, bits, _shared_notes(self.n))
            _render_all(task, self.workers, progress)
            volumes.flush()
            bits.flush()
            index = {"hashes": [h.decode() for h in task.notes["hash"]], "crcs": task.notes["crc"].tolist()}
            del task, volumes, bits
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


def _alive(pid: str) -> bool:
    """Whether a process of this number runs here."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


@frozen(eq=False)
class _Task:
    """What renders volume i into the maps, and notes hash, checksum and "done" in memory that forks share."""

    render: Callable[[int], Volume]
    masks: tuple[str, ...]
    volumes: NDArray[np.float32]
    bits: NDArray[np.uint8]
    notes: NDArray[np.void]  # (n,) of _NOTE

    def __call__(self, i: int) -> None:
        x, masks = self.render(i)
        self.volumes[i] = x
        self.bits[i] = _packed(masks, self.masks, self.bits.shape[2])
        self.notes["hash"][i] = content_hash(x).encode()
        self.notes["crc"][i] = zlib.crc32(self.bits[i])
        self.notes["done"][i] = True


def _packed(masks: dict[str, NDArray[np.bool_]], names: tuple[str, ...], most: int) -> NDArray[np.uint8]:
    """The named masks as bits (masks, most bytes)."""
    flat = [np.packbits(masks[name].reshape(-1)) for name in names]
    return np.stack(flat) if flat else np.empty((0, most), np.uint8)


_NOTE = np.dtype([("hash", "S64"), ("crc", "u4"), ("done", "?")])


def _shared_notes(n: int) -> NDArray[np.void]:
    return np.frombuffer(mmap.mmap(-1, n * _NOTE.itemsize), _NOTE)


def _render_all(task: _Task, workers: int, progress: Progress | None) -> None:
    """Do every volume, sharing the work with forked processes where that pays; what they leave is done here."""
    n = len(task.volumes)
    helpers = _fork_helpers(task, min(workers, os.cpu_count() or 1, n))
    try:
        for i in range(0, n, len(helpers) + 1):
            task(i)
            if progress:
                progress(int(task.notes["done"].sum()), n)
        _join(helpers, task)
    finally:
        for helper in helpers:
            helper.kill()  # no effect on one that has ended
            helper.join()
    for i in np.flatnonzero(~task.notes["done"]):
        task(int(i))
    if progress:
        progress(n, n)


def _fork_helpers(task: _Task, workers: int) -> list[multiprocessing.process.BaseProcess]:
    """Start workers - 1 processes, each with every `workers`-th volume; none where it does not pay or cannot be."""
    if workers < 2 or task.volumes.size < _PARALLEL_VOXELS or "fork" not in multiprocessing.get_all_start_methods():
        return []
    helpers = []
    with warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads: the helpers use numpy and scipy only, which survive it.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            for k in range(1, workers):
                args = (task, k, workers, os.getpid())
                helper = multiprocessing.get_context("fork").Process(target=_help, args=args, daemon=True)
                helper.start()
                helpers.append(helper)
        except OSError:  # no process to be had: the parent renders it all
            for helper in helpers:
                helper.kill()
            return []
    return helpers


def _help(task: _Task, first: int, step: int, parent: int) -> None:
    """What a helper does: its volumes, until done or orphaned."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handlers are not meant for helpers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for i in range(first, len(task.volumes), step):
        if os.getppid() != parent:
            return
        task(i)


def _end_with(parent: int) -> None:
    """End this process within a second of its parent, even in the middle of a volume."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _join(helpers: list[multiprocessing.process.BaseProcess], task: _Task) -> None:
    """Wait for the helpers as long as volumes keep coming."""
    done, since = -1, time.monotonic()
    while any(helper.is_alive() for helper in helpers):
        now = int(task.notes["done"].sum())
        if now != done:
            done, since = now, time.monotonic()
        if time.monotonic() - since > _STALLED_S:
            return
        helpers[0].join(0.02)
        time.sleep(0.005)
