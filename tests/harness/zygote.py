"""A process that has imported everything and forks one child a `gen` command: torch's two seconds are paid once.

`Zygote(folder)` starts it; `.run(...)` has a command run in a fork and tells how it ended. One thread, so that forking
is safe; which modules to import is learned from the first child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_S = 300.0  # no command of the tests takes so long


class Zygote:
    """The parent's side. Use as a context manager."""

    def __init__(self) -> None:
        self._logs = tempfile.TemporaryDirectory(prefix="zygote-")  # not on a disk that a test fills
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
        self._logs.cleanup()

    def run(self, *command: str, folder: Path, **more: Any) -> Ended:
        """Run `gen <command>` in `folder`.

        kill, fail, record: see `file_operations.Traced`, whose root is `folder`. after: (seconds, signal number), sent
        once. limits: [(resource, value)]. patch: source run in the child before the command.
        """
        assert self._process.stdin and self._process.stdout
        log = Path(self._logs.name) / "log"
        told = {k: str(v) if isinstance(v, Path) else v for k, v in more.items() if v is not None}
        told |= {"command": command, "folder": str(folder), "log": str(log)}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(answer["code"], answer["seconds"], log.read_text(errors="replace"))


class Ended:
    """How a command ended. code: the exit code, negative for a signal. text: all it printed."""

    def __init__(self, code: int, seconds: float, text: str) -> None:
        self.code, self.seconds, self.text = code, seconds, text

    @property
    def last(self) -> str:
        """The last line printed."""
        return (self.text.strip().splitlines() or [""])[-1]


def serve() -> None:
    """Answer requests, one a line, until the pipe closes."""
    sys.path.insert(0, str(Path(__file__).parent))
    _import(["torch", "numpy", "safetensors.torch", "gen_cli.main", "gen_core.run.api", "gen_core.run.runner"])
    import torch

    torch.set_num_threads(1)
    modules = "/dev/null"
    learned = False
    for line in sys.stdin:
        told = json.loads(line)
        plain = not learned and not any(told.get(k) for k in ("kill", "fail", "after", "limits", "patch"))
        modules = told["log"] + ".modules" if plain else ""
        began = time.monotonic()
        code = _in_child(told, modules)
        seconds = time.monotonic() - began
        if plain and code == 0:
            _import(json.loads(Path(modules).read_text()))
            learned = True
        print(json.dumps({"code": code, "seconds": seconds}), flush=True)


def _import(names: list[str]) -> None:
    import importlib

    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # what cannot be imported by name is imported by the child itself
            continue


def _in_child(told: dict[str, Any], modules: str) -> int:
    assert len(os.listdir("/proc/self/task")) == 1, "forking beside threads"
    child = os.fork()
    if not child:
        _child(told, modules)
    delay, number = told.get("after") or (LIMIT_S, signal.SIGKILL)
    end = time.monotonic() + delay
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            os.kill(child, number)
            end = time.monotonic() + LIMIT_S
            number = signal.SIGKILL
        time.sleep(0.002)


def _child(told: dict[str, Any], modules: str) -> None:
    """Be the command; never returns."""
    code = 70
    try:
        log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(fd, target)
        sys.stdin = open(0)
        sys.stdout, sys.stderr = open(1, "w", buffering=1, closefd=False), open(2, "w", buffering=1, closefd=False)
        os.chdir(told["folder"])
        code = _command(told)
        if modules:
            Path(modules).write_text(json.dumps(sorted(sys.modules)))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _command(told: dict[str, Any]) -> int:
    import resource

    from file_operations import Traced

    from gen_cli.main import app

    for name, value in told.get("limits") or ():
        resource.setrlimit(getattr(resource, name), (value, value))
    if told.get("patch"):
        exec(told["patch"], {"__name__": "patch"})
    if any(told.get(key) is not None for key in ("kill", "fail", "record")):
        record = told.get("record")
        Traced(Path(told["folder"]), told.get("kill"), told.get("fail"), Path(record) if record else None).install()
    try:
        app(told["command"], prog_name="gen")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    return 0


if __name__ == "__main__":
    serve()
