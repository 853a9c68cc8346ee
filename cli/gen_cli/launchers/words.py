"""The words that start a run in a process of its own."""

from __future__ import annotations

import sys
from typing import Any

NAMES = {"device": "device", "until_step": "until", "only_step": "only", "fork": "fork", "seed": "seed"}


def run_words(request: Any) -> list[str]:
    """`python -m gen_cli run ...` of a RunRequest; what it says of an earlier run (resume, from) stays behind."""
    words = [sys.executable, "-m", "gen_cli", "run", str(request.recipe)]
    if request.out is not None:
        words += ["--out", str(request.out)]
    for override in request.overrides:
        words += ["--set", override]
    for field, name in NAMES.items():
        if getattr(request, field) is not None:
            words += [f"--{name}", str(getattr(request, field))]
    return words + [f"--{name}" for name in ("smoke", "offline") if getattr(request, name)]
