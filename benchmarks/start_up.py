"""How long a command line takes to answer: `gen --help` and `gen plugins list` against Python alone, and imports.

    python benchmarks/start_up.py

Every side is a fresh process. Importing torch, or a library of the field, stands beside: what a command costs that
imports more than it needs.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness import compare

GEN = Path(sys.executable).with_name("gen")


def run(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    python = sys.executable
    sides = {
        "python -c pass": run(python, "-c", "pass"),
        "gen --help": run(str(GEN), "--help"),
        "gen plugins list": run(str(GEN), "plugins", "list"),
    }
    for library in ("torch", "diffusers", "monai"):
        if importlib.util.find_spec(library):
            sides[f"import {library}"] = run(python, "-c", f"import {library}")
    compare("start-up", sides, rounds=5, memory=False)


if __name__ == "__main__":
    main()
