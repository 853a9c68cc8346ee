"""Every change a process makes to the files below a folder, numbered; and the power to kill or fail at any of them.

Seen are the opening of a file for writing, writes, flushes, renames, removals, new folders, truncations and
allocations. `Traced(...).install()` works inside the process itself, without a debugger: Python's audit events tell of
all that has one (also when C code does it); files opened by Python write through a class of ours; what is left
(flushes, the safetensors writer) is wrapped. What a store into a memory map changes is not seen.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES_ON_FULL = ("open", "write", "native write", "mkdir", "allocate", "rename", "truncate")  # what may need room
CHANGES = (*CHANGES_ON_FULL, "unlink", "rmdir")


class Traced:
    """Numbers the operations below `root` from 0.

    kill: (k, "before") dies by SIGKILL before operation k; (k, "torn") in the middle of it, which must be a write.
    fail: (k, errno): operation k and each like it from then on raises that OSError.
    record: a file that gets one JSON line an operation: n, kind, path, target (of a rename), inode.
    """

    def __init__(
        self,
        root: Path,
        kill: tuple[int, str] | None = None,
        fail: tuple[int, int] | None = None,
        record: Path | None = None,
    ) -> None:
        self.root = os.path.realpath(root) + os.sep
        self.kill, self.fail = kill, fail
        self.record = None if record is None else os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.n = 0
        self.lock = threading.RLock()
        self.inside = threading.local()  # set while an operation is made of others

    def install(self) -> None:
        """From now on to the end of the process."""
        import safetensors.numpy
        import safetensors.torch

        sys.addaudithook(self._audit)
        opened = lambda *args, **more: _open(self, *args, **more)
        builtins.open = io.open = opened  # type: ignore[assignment]
        self._wrap(os, "fsync", lambda fd: ("fsync", _path_of(fd)))
        self._wrap(os, "fdatasync", lambda fd: ("fsync", _path_of(fd)))
        self._wrap(os, "write", lambda fd, data: ("write", _path_of(fd)))
        self._wrap(os, "posix_fallocate", lambda fd, *_: ("allocate", _path_of(fd)))
        for module in (safetensors.torch, safetensors.numpy):
            self._wrap(module, "serialize_file", lambda _, path, *__, **more: ("native write", str(path)))

    def _wrap(self, module: Any, name: str, what: Any) -> None:
        true = getattr(module, name)

        def wrapped(*args: Any, **more: Any) -> Any:
            kind, path = what(*args, **more)
            torn = self.operation(kind, path)
            if torn and kind == "native write":
                true(*args, **more)  # the writer in Rust has a temporary file of its own, and renames it
                os.truncate(path, os.path.getsize(path) // 2)
                _rename(path, os.path.join(os.path.dirname(path), ".tmpaB3dE9"))
                _die()
            return true(*args, **more)

        setattr(module, name, wrapped)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int) or not flags & WRITING:
                return
            self.operation("open", path)
        elif event in ("os.remove", "os.rmdir"):
            self.operation("unlink" if event == "os.remove" else "rmdir", _within(args[1], args[0]))
        elif event == "os.mkdir":
            self.operation("mkdir", _within(args[2], args[0]))
        elif event == "os.rename":
            self.operation("rename", _within(args[2], args[0]), _within(args[3], args[1]))
        elif event == "os.truncate":
            self.operation("truncate", _path_of(args[0]) if isinstance(args[0], int) else args[0])

    def operation(self, kind: str, path: Any, target: Any = None) -> bool:
        """Count one; die or raise here if it is its turn. True: the caller is to die in the middle of it."""
        if getattr(self.inside, "on", False):
            return False
        path = os.path.join(os.path.realpath(os.path.dirname(os.fsdecode(path))), os.path.basename(os.fsdecode(path)))
        if not f"{path}{os.sep}".startswith(self.root):
            return False
        with self.lock:
            n, self.n = self.n, self.n + 1
            self._note(n, kind, path, target)
            if self.kill is not None and self.kill[0] == n:
                if self.kill[1] == "torn":
                    return True
                _die()
            if self.fail is not None and n >= self.fail[0] and kind in _failing(self.fail[1]):
                _raise(kind, path, self.fail[1])
        return False

    def _note(self, n: int, kind: str, path: str, target: Any) -> None:
        if self.record is None:
            return
        try:
            inode = os.stat(path).st_ino
        except OSError:
            inode = 0
        line = {"n": n, "kind": kind, "path": path, "inode": inode}
        if target is not None:
            line["target"] = os.path.abspath(os.fsdecode(target))
        _write(self.record, (json.dumps(line) + "\n").encode())


class _Raw(io.FileIO):
    """A file whose writes are operations."""

    traced: Traced

    def write(self, data: Any) -> int:  # type: ignore[override]
        if self.traced.operation("write", _path_of(self.fileno())):
            super().write(bytes(data)[: len(bytes(data)) // 2])
            _die()
        return super().write(data)


def _open(
    traced: Traced,
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """`open`, but that what is written passes by `traced`."""
    if not set(mode) & set("wax+") or isinstance(file, int):
        return _true_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
    raw.traced = traced
    if buffering == 0:
        return raw
    buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]
    return text


_true_open, _write, _rename = io.open, os.write, os.rename


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(kind: str, path: str, number: int) -> None:
    if kind == "native write":  # as the writer in Rust says it
        from safetensors import SafetensorError

        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    raise OSError(number, os.strerror(number), path)


def _failing(number: int) -> tuple[str, ...]:
    return CHANGES if number in (errno.EROFS, errno.EACCES) else CHANGES_ON_FULL


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _within(folder_fd: int, path: Any) -> str:
    """The path of a name that is looked up in an open folder (-1: the working one)."""
    return os.fsdecode(path) if folder_fd < 0 else os.path.join(_path_of(folder_fd), os.fsdecode(path))
