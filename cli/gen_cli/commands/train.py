"""`gen train`: the fits of a run."""

from __future__ import annotations

import sys

from gen_cli.arguments import Debug, Device, Json, RunDir, Set
from gen_cli.commands.run import finish
from gen_cli.progress import progress_on


def train(run: RunDir, set_: Set = None, device: Device = None, json_: Json = False, debug: Debug = False) -> None:
    """Fit everything that a run's recipe fits, up to and with the last fit."""
    from gen_core.run import api

    overrides = (*(set_ or ()), *([f'device="{device}"'] if device else []))
    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        outcome = api.run_single(run, "train", overrides, progress=progress)
    finish(outcome, json_)
