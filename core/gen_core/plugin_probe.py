"""Strangers' plugin modules are asked what they offer in a process of their own, with a limit on time and memory.

What a plugin does while it is loaded - ending the process, hanging, printing, changing global state, crashing the
interpreter - happens there. Only strings come back, so a plugin that no recipe names is never imported where gen works.
A child answers on a pipe of its own; its stdout and stderr are read and told. One that does not answer within
`SECONDS` is killed with everything that it started.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from attrs import define, frozen

from gen_core.component import Component, changes, said, state
from gen_core.offers import Offers, check, offers_of, prints, unusable

SECONDS = 20.0  # for a plugin module that should import nothing; generous, as the machine may be busy
AT_ONCE = 4
MEMORY = 4 * 2**30  # bytes of private memory a child may have
LONGEST = 2**20  # bytes of an answer
SHOWN = 2**12  # bytes of what is printed that are kept
CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from gen_core.plugin_probe import answer; answer(int(sys.argv[2]), *sys.argv[3:])"
)


@frozen
class Entry:
    """One entry point: its name, its module, and the distribution it came with."""

    plugin: str
    module: str
    distribution: str
    version: str


class Broken(Exception):
    """A plugin that cannot be loaded; the message is the cause."""


_known: dict[Any, Offers | Broken] = {}  # within a process a module is asked once


def ask(entries: list[Entry], seconds: float | None = None) -> list[Offers | Broken]:
    """What each plugin offers, or why it is broken; `AT_ONCE` at a time, each in its own process."""
    limit = SECONDS if seconds is None else seconds
    keys = [(entry, tuple(sys.path), limit) for entry in entries]
    waiting = [key for key in dict.fromkeys(keys) if key not in _known]
    running: dict[Any, _Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                key = waiting.pop(0)
                running[key] = _Child.start(key[0], limit)
            _wait(list(running.values()))
            for key in [key for key, child in running.items() if child.over()]:
                child = running.pop(key)
                child.end()
                _known[key] = child.outcome()
    finally:
        for child in running.values():
            child.end()
    return [_known[key] for key in keys]


@define(eq=False)
class _Child:
    """One process that loads one plugin."""

    entry: Entry
    process: subprocess.Popen[bytes]
    answers: int
    seconds: float
    deadline: float
    answer: bytes = b""
    printed: bytes = b""
    late: bool = False

    @classmethod
    def start(cls, entry: Entry, seconds: float) -> _Child:
        answers, their_end = os.pipe()
        entry_words = [entry.module, entry.distribution, entry.version]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", CHILD, json.dumps(sys.path), str(their_end), *entry_words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(their_end,),
                start_new_session=True,
            )
        finally:
            os.close(their_end)
        assert process.stdout is not None
        for fd in (answers, process.stdout.fileno()):
            os.set_blocking(fd, False)
        return cls(entry, process, answers, seconds, time.monotonic() + seconds)

    def over(self) -> bool:
        """Take in what is there; whether the child has ended or its time is up."""
        ended = self.process.poll() is not None
        assert self.process.stdout is not None
        while True:
            self.late = not ended and time.monotonic() > self.deadline
            told, shown = _available(self.answers), _available(self.process.stdout.fileno())
            self.answer = (self.answer + told)[: LONGEST + 1]
            self.printed = (self.printed + shown)[:SHOWN]
            if self.late or not (told or shown):
                return self.late or ended

    def outcome(self) -> Offers | Broken:
        """What the child said, or how it ended without a word."""
        try:
            reply = json.loads(self.answer) if len(self.answer) <= LONGEST else {"broken": "answers too much"}
            if "broken" in reply:
                return Broken(str(reply["broken"]))
            e = self.entry
            origin = (e.module, e.distribution, e.version)
            found = [Component(*map(_text, row[:4]), *row[4:], *origin) for row in reply["found"]]
            for component in found:
                check(component)
            warnings = [str(line) for line in reply["warnings"]]
        except (ValueError, TypeError, KeyError):
            return Broken(self._silence())
        shown = self.printed.decode(errors="replace").strip()
        return found, warnings + ([prints(shown)] if shown else [])

    def _silence(self) -> str:
        code = self.process.returncode
        if self.late:
            return f"is not loaded after {self.seconds:g} s"
        if code is not None and code < 0:
            return f"crashes when it is loaded ({signal.Signals(-code).name})"
        return f"ends the process when it is loaded (exit status {code})"

    def end(self) -> None:
        """Kill what is left of it, and of what it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.kill()
        self.process.wait()
        os.close(self.answers)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _wait(running: list[_Child]) -> None:
    """Until a child says something, but not long: one may end without a word."""
    with selectors.DefaultSelector() as selector:
        for child in running:
            assert child.process.stdout is not None
            selector.register(child.answers, selectors.EVENT_READ)
            selector.register(child.process.stdout, selectors.EVENT_READ)
        selector.select(0.02)
    time.sleep(0.001)  # a closed pipe is always ready


def _available(fd: int) -> bytes:
    try:
        return os.read(fd, 2**16)
    except BlockingIOError:
        return b""


def answer(fd: int, module: str, distribution: str, version: str) -> None:
    """In the child: load the plugin, say what it offers, and end before it can say more."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    words, before, environment, threads = os.write, state(), dict(os.environ), threading.active_count()
    try:
        found, warnings = offers_of(module, distribution, version)
        changed = changes(before)
        changed += ["environment variables"] * (dict(os.environ) != environment)
        if changed:
            warnings.append(f"changes {' and '.join(changed)} when it is loaded")
        if threading.active_count() > threads:
            warnings.append("starts threads when it is loaded")
        warnings += filter(None, map(unusable, found))
        rows = [[c.kind, c.name, c.options, c.builder, c.version, c.summary] for c in found]
        reply: dict[str, Any] = {"found": rows, "warnings": warnings}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: no plugin ends the program
        reply = {"broken": said(error)}
    data = json.dumps(reply).encode()
    while data:
        data = data[words(fd, data) :]
    sys.stdout.flush()
    os._exit(0)  # neither its atexit handlers nor its threads keep us
