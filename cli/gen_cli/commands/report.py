"""`gen report`: the page of a run, made again."""

from __future__ import annotations

import sys

from gen_cli.arguments import Debug, Json, RunDir, Set
from gen_cli.commands.run import finish
from gen_cli.progress import progress_on


def report(run: RunDir, set_: Set = None, json_: Json = False, debug: Debug = False) -> None:
    """Write a run's report.html again from what lies in its folder; `--set report.images=12` changes it."""
    from gen_core.run import api

    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        outcome = api.run_single(run, "report", tuple(set_ or ()), redo=True, progress=progress)
    finish(outcome, json_)
