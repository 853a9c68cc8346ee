"""The HDF5 library, asked in a process of its own: started at the first file, shared by threads, never by forks.

A file made to harm ends that process (`child`), told in one line; the next file gets another one. It is no
sandbox: it may do what the user may do.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from gen_core.errors import DataError, GenError, RunError
from gen_hyperspectral.containers.hdf5.child import ANSWER, REQUEST
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.limits import lacking

SECONDS = 10.0  # of the processor, for looking at a file and for one chunk
MEMORY = 400 << 20  # bytes beyond what the child has after its imports
DEADLINE = 120.0  # seconds on the clock: for a child that neither works nor ends
LONGEST = 64 << 20  # bytes of an answer without its values
CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from gen_hyperspectral.containers.hdf5.child import serve; serve()"
)


class LibraryError(ValueError):
    """What the library says of a file that it cannot read."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises: DataError naming the file whatever the library, or what it says, makes of a damaged one."""
    try:
        yield
    except GenError:
        raise
    except MemoryError:
        raise DataError(f"{path}: damaged HDF5 file: it asks for more memory than there is") from None
    except Exception as error:
        raise DataError(f"{path}: damaged or no HDF5 file: {one_line(error)}") from None


@frozen
class Answer:
    """told: what the child says; values: bytes behind it; seconds: of the processor that it took."""

    told: Any
    values: bytes | bytearray
    seconds: float


class _Ended(Exception):
    """The child ended over a question, or was ended: the message says how.

    crashed: it may be another file's fault, which the child has read before. idle: it was nobody's.
    """

    def __init__(self, message: str, crashed: bool = False, idle: bool = False):
        super().__init__(message)
        self.crashed, self.idle = crashed, idle


class Library:
    """Asks a child, which it starts when there is none. Threads take turns; a forked process starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._series = itertools.count()

    def series(self) -> int:
        """A number for a new series of questions."""
        return next(self._series)

    def ask(self, do: str, path: Path, series: int, seconds: float, memory: int = 0, **words: Any) -> Answer:
        """What one of `questions` finds in a file. memory: bytes beyond MEMORY.

        series: of questions to one file (`Library.series`), for which it need be opened once only.

        Raises: DataError where the library does not live through it, MissingError without h5py, RunError where no
        process can be started, LibraryError and MemoryError as the library says.
        """
        place = os.fsencode(os.path.abspath(path)).decode("latin-1")
        request = {"do": do, "path": place, "series": series, "seconds": seconds, "words": words}
        request["room"] = MEMORY + memory
        with self._lock:
            try:
                facts, values = self._answer(request, path)
            except _Ended as ended:
                raise DataError(f"{path}: {ended}") from None
        if "refused" in facts:
            raise DataError(f"{path}: {facts['refused']}")
        if "memory" in facts:
            raise MemoryError
        if "error" in facts:
            raise LibraryError(facts["error"])
        return Answer(facts["told"], values, facts["spent"])

    def _answer(self, request: dict[str, Any], path: Path, again: bool = False) -> tuple[dict[str, Any], bytearray]:
        child = self._there(path)
        another, child.path = child.path not in ("", request["path"]), request["path"]
        try:
            facts, values = child.answer(request)
        except _Ended as ended:
            self.end()
            if not again and (ended.idle or ended.crashed and another):
                return self._answer(request, path, again=True)
            raise
        except BaseException:
            self.end()  # an answer may be on its way to nobody
            raise
        if facts["leaves"]:
            self.end()
        return facts, values

    def _there(self, path: Path) -> _Child:
        if self._child is not None and self._child.process.poll() is not None:
            self.end()
        if self._child is None:
            self._child = _start(path)
        return self._child

    def end(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def forget(self) -> None:
        """In a forked process: the child is the parent's, and ends when the parent closes its pipe, not when we do."""
        child, self._child, self._lock = self._child, None, threading.Lock()
        if child is not None:
            child.close()
            child.process.returncode = 0  # not ours to wait for, and nothing to warn of


library = Library()
atexit.register(library.end)
os.register_at_fork(after_in_child=library.forget)


def _start(path: Path) -> _Child:
    words = [sys.executable, "-I", "-B", "-c", CHILD, json.dumps(sys.path)]
    # one thread: more would only take addresses
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    try:
        process = subprocess.Popen(
            words,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # signals to the terminal's processes are the parent's to heed
            env=env,
        )
    except OSError as error:
        raise RunError(f"{path}: no process for the HDF5 library: {error.strerror or error}") from None
    child = _Child(process)
    try:
        hello, _ = child.read()
    except _Ended as ended:
        child.end()
        raise RunError(f"{path}: no process for the HDF5 library: {ended}") from None
    except BaseException:
        child.end()
        raise
    if "missing" in hello:
        child.end()
        raise lacking("h5py", path)
    return child


@define(eq=False)
class _Child:
    """A running process. coming: tells when it says something; path: the file that it saw last."""

    process: subprocess.Popen[bytes]
    coming: selectors.BaseSelector = field(factory=selectors.DefaultSelector)
    path: str = ""

    def __attrs_post_init__(self) -> None:
        assert self.process.stdout is not None
        self.coming.register(self.process.stdout, selectors.EVENT_READ)

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Raises: _Ended where the child ends before it has answered."""
        text = json.dumps(request).encode()
        assert self.process.stdin is not None
        rest = memoryview(REQUEST.pack(len(text)) + text)
        try:
            while rest:
                rest = rest[self.process.stdin.write(rest) :]
        except BrokenPipeError:
            pass  # how it ended is told below
        return self.read(request["seconds"])

    def read(self, seconds: float = SECONDS) -> tuple[dict[str, Any], bytearray]:
        until = time.monotonic() + max(DEADLINE, 2 * seconds)
        size, more = ANSWER.unpack(self._bytes(ANSWER.size, until, seconds))
        if size > LONGEST:
            raise _Ended(f"the HDF5 library says {size} bytes of it: damaged, or made to harm")
        facts = json.loads(self._bytes(size, until, seconds))
        return facts, self._bytes(more, until, seconds)

    def _bytes(self, count: int, until: float, seconds: float) -> bytearray:
        found = bytearray(count)
        view, pipe = memoryview(found), self.process.stdout
        assert pipe is not None
        while view:
            left = until - time.monotonic()
            if left <= 0:
                raise _Ended(f"the HDF5 library did not answer in {max(DEADLINE, 2 * seconds):g} s")
            if self.coming.select(left):
                done = pipe.readinto(view)  # type: ignore[attr-defined]
                if not done:
                    raise self._how(seconds)
                view = view[done:]
        return found

    def _how(self, seconds: float) -> _Ended:
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return _Ended("the HDF5 library closed its pipe", crashed=True)
        if code == 0:
            return _Ended("the HDF5 library ended", idle=True)
        blame = "damaged, or made to harm"
        if code == -signal.SIGPROF:
            limit = max(seconds, SECONDS)
            return _Ended(f"the HDF5 library did not come to an end with it in {limit:g} s: {blame}")
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return _Ended(f"the HDF5 library was ended by {how} over it: {blame}", crashed=True)

    def end(self) -> None:
        self.close()
        if self.process.poll() is None:
            self.process.kill()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass  # it waits for a disk that does not answer, and ends when that does

    def close(self) -> None:
        """Our ends of the pipes; it ends when there is nobody to ask."""
        self.coming.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
