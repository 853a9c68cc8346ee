"""Trackers beside a run: one process each, which follows events.jsonl; the run only starts it and says how it ended.

So nothing of a tracker stands in the way of training: not its imports, its server, its random numbers or its end.
Whatever goes wrong with one is one line, and the run goes on as if it had none.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from gen_core import atomic
from gen_core.component import said
from gen_core.errors import Stopped
from gen_core.recipe.structure import plain
from gen_core.run.context import RunContext
from gen_core.tracker import sendable

FOLDER = "trackers"  # of a run: a folder for each, and the run's id
LOG = "log.txt"  # of a tracker: what it prints
EVERY = 5.0  # seconds between two looks at events.jsonl
PATIENCE = 60.0  # seconds that trackers get to end after a run that is done
SHORT = 5.0  # after one that was stopped or failed
CHILD = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from gen_core.run.tracking.child import main; main(int(sys.argv[2]))"
)


@contextmanager
def tracked(ctx: RunContext) -> Iterator[None]:
    """Inside, the run is followed by the trackers of its recipe."""
    running = [process for table in ctx.recipe.tables_of("tracker") if (process := _start(ctx, table))]
    state = "failed"
    try:
        yield
        state = "done"
    except Stopped:
        state = "stopped"
        raise
    finally:
        end(running, state, ctx)


def run_id(folder: Path) -> str:
    """The id that a run bears wherever it is tracked: drawn once, and kept in its folder."""
    path = folder / FOLDER / "id"
    if not path.exists():
        atomic.write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text().strip()


def _start(ctx: RunContext, table: Any) -> Tracking | None:
    name = table.name.partition(".")[2]
    try:
        folder = ctx.folder.path / FOLDER / (re.sub(r"[^\w-]", "_", name) or "_")
        atomic.make_folder(folder)
        run = {"name": ctx.recipe.run.name, "id": run_id(ctx.folder.path), "folder": str(folder.resolve())}
        told = {
            "component": attrs.asdict(table.component),
            "options": plain(table.options),
            "run": {**run, "recipe": sendable(ctx.recipe.to_dict())},
            "home": str(ctx.folder.path.resolve()),
            "every": EVERY,
        }
        return Tracking(name, told, folder / LOG, ctx.progress)
    except Exception as error:
        _warn(ctx.progress, name, said(error))
        return None


def _warn(progress: Any, name: str, cause: str) -> None:
    progress.say(f"[{FOLDER}.{name}] is off for the rest of this run: {cause}")


def end(running: list[Tracking], state: str, ctx: RunContext) -> None:
    """Tell all trackers how the run ended, and wait for them, but not for long."""
    for process in running:
        process.tell(state)
    began = time.monotonic()
    for process in running:
        while not process.ended:
            hurry = state != "done" or ctx.stop.requested
            if time.monotonic() - began > (SHORT if hurry else PATIENCE):
                break
            time.sleep(0.02)
        process.close()


class Tracking:
    """The process of one tracker, seen from the run."""

    def __init__(self, name: str, told: dict[str, Any], log: Path, progress: Any) -> None:
        self.name, self._progress, self._over = name, progress, False
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file, log.open("w") as printed:
            json.dump(told, file)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", CHILD, json.dumps(sys.path), str(file.fileno())],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                pass_fds=(file.fileno(),),
                start_new_session=True,  # a signal for the run is not for its trackers
            )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        """Say at once what went wrong."""
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._end(json.loads(line))

    def _end(self, word: str) -> None:
        """The first word counts; none is a good end."""
        if word and not self._over:
            _warn(self._progress, self.name, word)
        self._over = True

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def tell(self, state: str) -> None:
        """How the run ended."""
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), f"{state}\n".encode())
        except OSError:  # it has ended itself, which `close` tells
            return

    def close(self) -> None:
        """Kill what is left of it, and of what it started."""
        late = not self.ended
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._listening.join(1.0)
        self._end("it did not end in time" if late else f"its process ended before the run; see {LOG}")
        assert self._process.stdin is not None
        self._process.stdin.close()
