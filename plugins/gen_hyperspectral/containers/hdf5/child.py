"""In the child, the only process where the HDF5 library reads: one question at a time over pipes, within limits.

A request is JSON with its length in front; an answer is JSON and bytes of values, with both lengths in front. What a
file makes the library do here in C - go round for ever, crash, fill the memory - ends this process and no other: the
kernel ends it after so many seconds of the processor (SIGPROF, not handled), and memory is bounded by RLIMIT_AS.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gen_hyperspectral.containers.hdf5.questions import QUESTIONS, Refused

REQUEST, ANSWER = struct.Struct("<Q"), struct.Struct("<QQ")  # bytes of JSON; bytes of JSON and of values
HELD = 1.0  # seconds without a request after which the file is closed
IDLE = 60.0  # and after which the child goes; a next file gets another
CLOSING = 10.0  # seconds of the processor
LITTER = 64 << 20  # bytes that files may leave behind before the child goes


def serve() -> None:
    """Answer until nobody asks any more: then stdin is closed, for whatever reason, or nothing has come for long."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # what a library prints goes nowhere
        os.dup2(nothing, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to heed
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    try:
        import h5py
        import numpy  # noqa: F401
    except ImportError as error:
        _send(answers, {"missing": str(error)})
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = _Held(_addresses())
    _send(answers, {"ready": h5py.version.hdf5_version})
    while (request := _received(requests, held)) is not None:
        _bound(held.base + request["room"] if held.base else 0)
        began = time.process_time()
        with _within(request["seconds"]):
            facts, values = _answered(request, held)
            leaves = held.leaves()
        facts |= {"spent": time.process_time() - began, "leaves": leaves}
        _send(answers, facts, memoryview(values).cast("B"))
        if leaves:
            return


class _Held:
    """The file of the latest questions, kept open for the next ones of the same series."""

    def __init__(self, base: int):
        self.base = base  # bytes of addresses before any file
        self.series: int | None = None
        self.file: Any = None

    def open(self, path: str, series: int) -> Any:
        if self.series != series:
            import h5py

            self.close()
            self.file = h5py.File(os.fsdecode(path.encode("latin-1")), "r")
            self.series = series
            try:  # it was no file in writing; now who likes may write it
                fcntl.flock(self.file.id.get_vfd_handle(), fcntl.LOCK_UN)
            except Exception:  # a driver without a lock
                pass
        return self.file

    def close(self) -> None:
        file, self.file, self.series = self.file, None, None
        if file is not None:
            file.close()

    def leaves(self) -> bool:
        """Whether damaged files have left behind what is not for the next one. Types do not count: h5py keeps some."""
        from h5py import h5f

        things = h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_DATASET | h5f.OBJ_GROUP | h5f.OBJ_ATTR)
        files = h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE)
        return things > 0 or files > (self.file is not None) or _addresses() > self.base + LITTER


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """So many seconds of the processor; then the kernel ends the process, whatever it does."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answered(request: dict[str, Any], held: _Held) -> tuple[dict[str, Any], Any]:
    try:
        told, values = QUESTIONS[request["do"]](held.open(request["path"], request["series"]), **request["words"])
        json.dumps(told)
        return {"told": told}, values
    except Refused as error:
        facts: dict[str, Any] = {"refused": str(error)}
    except MemoryError:
        facts = {"memory": True}
    except Exception as error:  # OSError, KeyError, RuntimeError, ValueError, TypeError, ... from anywhere
        facts = {"error": (str(error) or type(error).__name__)[:2000]}
    try:
        held.close()
    except Exception:  # said above
        pass
    return facts, b""


def _received(fd: int, held: _Held) -> dict[str, Any] | None:
    """The next request; None at the end of all. A file is not held open for long."""
    if not select.select([fd], [], [], HELD)[0]:
        with _within(CLOSING):
            held.close()
        if not select.select([fd], [], [], IDLE)[0]:
            return None
    head = _read(fd, REQUEST.size)
    return json.loads(_read(fd, REQUEST.unpack(head)[0])) if head else None


def _read(fd: int, count: int) -> bytes:
    """So many bytes; none where the pipe ends."""
    found = b""
    while len(found) < count:
        part = os.read(fd, count - len(found))
        if not part:
            return b""
        found += part
    return found


def _send(fd: int, facts: Any, values: Any = b"") -> None:
    text = json.dumps(facts).encode()
    for part in (ANSWER.pack(len(text), len(values)) + text, values):
        view = memoryview(part)
        while len(view):
            view = view[os.write(fd, view) :]


def _addresses() -> int:
    """Bytes of this process's addresses; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _bound(room: int) -> None:
    """Bound the addresses of the process, where it is known how many it has; below a bound that it came with."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    if room:
        resource.setrlimit(resource.RLIMIT_AS, (room if most == resource.RLIM_INFINITY else min(room, most), most))
