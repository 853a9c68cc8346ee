"""`gen evaluate`: the scores of a run, or of anyone's samples against a folder of real volumes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Device, Json, Redo, Set, size
from gen_cli.commands.run import finish
from gen_cli.progress import progress_on
from gen_cli.show import as_json, scores


def evaluate(
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="Folder of a run.")] = None,
    real: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of real volumes.")] = None,
    synthetic: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of synthetic volumes.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores here as JSON.")] = None,
    size_: Annotated[str | None, typer.Option("--size", metavar="D,H,W", help="Bring both to this size first.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe whose metrics are used; default evaluate_folders.")] = None,
    set_: Set = None,
    device: Device = None,
    redo: Redo = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Score a run (--run), or synthetic against real volumes in two folders (--real, --synthetic)."""
    from gen_core.errors import UsageError

    folders = real is not None or synthetic is not None
    if run is not None and (folders or out or size_ or recipe):
        raise UsageError("give either --run DIR, or --real DIR --synthetic DIR with --out, --size and --recipe")
    if run is None and (real is None or synthetic is None):
        raise UsageError("give --run DIR, or both --real DIR and --synthetic DIR")
    overrides = tuple(set_ or ())
    stream = sys.stderr if json_ else sys.stdout
    if run is not None:
        from gen_core.run import api

        overrides += (f'device="{device}"',) if device else ()
        with progress_on(stream) as progress:
            outcome = api.run_single(run, "evaluate", overrides, redo=redo, progress=progress)
        if not json_ and outcome.metrics:
            scores(json.loads(outcome.metrics.read_text()).get("results", {}))
        finish(outcome, json_)
        return
    shape = size(size_) if size_ else None
    from gen_core.run.score_folders import evaluate_folders

    extra = {"recipe": recipe} if recipe else {}
    with progress_on(stream) as progress:
        found = evaluate_folders(
            real,
            synthetic,
            out=out,
            size=shape,
            overrides=overrides,
            device=device or "auto",
            progress=progress,
            **extra,
        )
    as_json(found) if json_ else scores(found["results"])
