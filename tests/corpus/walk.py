"""Walk a folder of malformed files in one process: each case's command, how it ended, what it said, time and memory.

    python tests/corpus/walk.py FOLDER [FIRST]       one line of JSON a case, from number FIRST on

A case that outlasts its time ends the process by SIGALRM, and one that crashes ends it too: who called goes on behind.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

SECONDS = 60  # before the process is ended; what a case may take is the test's to say
ADDRESSES = 8 << 30  # bytes of address space beyond which an allocation fails instead of filling the machine


def main(folder: Path, first: int) -> None:
    from typer.testing import CliRunner

    from gen_cli.main import app

    cases = json.loads((folder / "cases.json").read_text())
    _warm()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, resource.RLIM_INFINITY))
    for number, case in enumerate(cases[first:], first):
        words = [word.replace("{}", str(folder / case["name"])) for word in case["words"]]
        print(json.dumps({"number": number}), flush=True)
        _forget_peak()
        before, began = _status("VmRSS"), time.process_time()
        signal.alarm(SECONDS)
        if words[0].startswith(("load-", "read-")):
            code, said = _load(*words)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = CliRunner().invoke(app, words, prog_name="gen")
            code, said = result.exit_code, result.stderr
        signal.alarm(0)
        row = {"name": case["name"], "code": code, "said": said[-5000:], "seconds": time.process_time() - began}
        print(json.dumps({**row, "megabytes": (_status("VmHWM") - before) / 1024}), flush=True)


def _load(how: str, *words: str) -> tuple[int, str]:
    """What only a run loads: its exit code and message. words: a path, behind the name of a reader of cubes."""
    path = words[-1]
    from gen_core.engine.checkpoint import open_checkpoint, read_weights
    from gen_core.errors import GenError
    from gen_core.foreign_weights import read_state
    from gen_core.inspect import describe
    from gen_core.registry import Registry

    try:
        if how == "load-checkpoint":
            open_checkpoint(Path(path)).tensors("model")
        elif how == "read-cube":
            component = Registry.load().get("reader", words[0])
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                describe(component.build(component.options_class()(), None).open(Path(path)))
        elif how == "load-weights":
            read_weights(Path(path))
        else:
            read_state(path, "", "features.weights")
    except GenError as error:
        return error.exit_code, f"{error}\n"
    except Exception as error:
        return 1, f"unexpected {type(error).__name__}: {error}\n"
    return 0, ""


def _warm() -> None:
    """Import what a case may import, so that a case's memory is its own."""
    import nibabel  # noqa: F401
    import numcodecs  # noqa: F401
    import pydicom.pixels  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import tifffile  # noqa: F401
    import torch  # noqa: F401

    import gen_radiology.dicom.reader  # noqa: F401
    from gen_core.registry import Registry

    registry = Registry.load()  # once: it is the same for every case, and half of the time
    Registry.load = lambda *_, **__: registry  # type: ignore[method-assign]


def _forget_peak() -> None:
    """Linux: VmHWM starts again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> int:
    """KiB, from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
