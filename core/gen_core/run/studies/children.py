"""Children of a sweep as processes: started in a good order, watched, stopped together.

Each is a process of its own, even when one runs after another: a crash or a full memory ends one child, and the peak
memory in its cost.json is its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gen_core.engine.stop import StopFlag
from gen_core.errors import RunError, Stopped
from gen_core.run.folder import RunFolder, held

PAUSE = 0.1  # seconds between two looks at the processes
PATIENCE = 60.0  # seconds that stopped children get to write their checkpoints
LAST_WORDS = 5  # lines of stderr kept of a child


def run_children(
    children: Sequence[Any],
    command: Callable[[Any], list[str]],
    *,
    parallel: int,
    stop: StopFlag,
    progress: Any,
    changed: Callable[[], None],
) -> None:
    """Run `Child`ren, at most `parallel` at once, and set their state, code and why; `changed` is called after each.

    progress: gets "[child] line" of every line they print; None: a single one writes to our own stdout.
    """
    waiting, running = list(children), []
    try:
        while (waiting or running) and not stop.requested:
            while len(running) < parallel and (child := _next(waiting, running)):
                waiting.remove(child)
                child.state, child.code, child.why = "running", None, ""
                running.append(Process(child, command(child.request), parallel, progress))
                changed()
            stop.raised.wait(PAUSE)
            running = _collect(running, changed)
        for process in running:
            process.ask_to_stop()
        for process in running:
            process.wait(PATIENCE)
        _collect(running, changed)
    finally:
        for process in running:
            process.kill()


def _collect(running: list[Process], changed: Callable[[], None]) -> list[Process]:
    """Those that still run; the others enter their end into their child."""
    for process in (p for p in running if p.ended):
        process.enter()
        changed()
    return [p for p in running if not p.ended]


def _next(waiting: list[Any], running: list[Process]) -> Any:
    """The child to start next, or None while all are held by processes that an earlier sweep left behind.

    Half-done ones first; then the one that would wait least for a step that a running child computes.
    """
    claimed = {
        print_
        for process in running
        for step, print_ in process.child.prints.items()
        if not RunFolder(process.child.folder).done(step)
    }
    half_done = lambda c: any(c.folder.glob("steps/*/started.json")) and not (c.folder / "metrics.json").exists()
    order = lambda c: (not half_done(c), len(claimed & set(c.prints.values())), waiting.index(c))
    return next((child for child in sorted(waiting, key=order) if not _busy(child)), None)


def _busy(child: Any) -> bool:
    """Whether another process works in the child's folder."""
    if not (child.folder / ".lock").exists():
        return False
    try:
        with held(child.folder):
            return False
    except RunError:
        return True


class Process:
    """A child at work: its output is read by threads, its last words are kept."""

    def __init__(self, child: Any, words: list[str], parallel: int, progress: Any):
        self.child, self._progress = child, progress
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        show = progress is not None or parallel > 1
        self._process = subprocess.Popen(
            words,
            env=_environment(parallel),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if show else None,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._threads = [threading.Thread(target=self._read, args=(self._process.stderr, True), daemon=True)]
        if show:
            self._threads.append(threading.Thread(target=self._read, args=(self._process.stdout, False), daemon=True))
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Any, last_words: bool) -> None:
        for line in stream:
            if last_words and line.strip():
                self._said.append(line.rstrip())
            if self._progress is not None:
                self._progress.say(f"[{self.child.name}] {line.rstrip()}")
        stream.close()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        """The child writes a checkpoint and ends with 75."""
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the child at once; what it had written stays."""
        if not self.ended:
            self._process.kill()
            self._process.wait()

    def enter(self) -> None:
        """Enter how the process ended into its child."""
        for thread in self._threads:
            thread.join()
        code, child = self._process.returncode, self.child
        child.code = code
        if code == 0:
            child.state = "done"
        elif code == Stopped.exit_code or code == -signal.SIGTERM:
            child.state = "stopped"
        else:
            child.state = "failed"
            child.why = "\n".join(self._said) or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")


def _environment(parallel: int) -> dict[str, str]:
    """Ours, with the cores shared out among the children unless somebody has set the number of threads."""
    environment = dict(os.environ)
    if parallel > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // parallel)))
    return environment
