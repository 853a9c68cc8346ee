"""Runs and sweeps into a cluster's queue: what is checked before, and what is told after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import typer

from gen_cli.launchers.slurm import submit
from gen_cli.launchers.slurm_options import SlurmOptions
from gen_cli.launchers.words import run_words
from gen_cli.show import as_json
from gen_core.errors import UsageError


def queue_run(request: Any, options: SlurmOptions) -> dict[str, Any]:
    """Queue one run, once its recipe resolves. Returns {"folder", "jobs": a row each}.

    Raises: UsageError for a redo; what the recipe and `submit` raise.
    """
    from gen_core.run import request as requests

    if request.from_step:
        raise UsageError(
            "--from goes with a run here: a job that is put back into the queue would start over each time"
        )
    recipe, folder = requests.resolve(request)
    jobs = submit([(recipe.run.name, run_words(_absolute(request)))], folder.path, options)
    return {"folder": str(folder.path), "jobs": jobs}


def queue_sweep(request: Any, options: SlurmOptions) -> dict[str, Any]:
    """Queue the children of a sweep as an array, `max_parallel` at work at once; equal steps are still done once."""
    from gen_core.run.studies.sweep import Sweep

    asked = Sweep(request)
    asked.fill()
    wanted = [child for child in asked.children if not request.only or child.name in request.only]
    asked.save()
    runs = [(child.name, run_words(_absolute(child.request))) for child in wanted]
    return {"folder": str(asked.folder), "jobs": submit(runs, asked.folder, options, request.max_parallel)}


def _absolute(request: Any) -> Any:
    """A job finds the recipe and the folder wherever it starts."""
    from gen_core.recipe import resolve_recipe_path

    out = request.out and Path(request.out).absolute()
    return attrs.evolve(request, recipe=Path(resolve_recipe_path(request.recipe)).absolute(), out=out)


def tell(queued: dict[str, Any], json_: bool) -> None:
    """Say what was queued, where it logs, and how to watch and end it."""
    if json_:
        as_json(queued)
        return
    jobs = queued["jobs"]
    typer.echo(f"folder: {queued['folder']}")
    for row in jobs:
        typer.echo(f"job {row['job']}: {row['name']}, log {row['log']}")
    number = jobs[0]["job"].partition("_")[0]
    typer.echo(f"follow: squeue -j {number}; tail -F {jobs[0]['log']}")
    typer.echo(f"stop: scancel {number}; the same command goes on from the last checkpoints")
