"""`gen sample`: the sample step of a run, or more samples of a finished one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Device, Json, Redo, RunDir, shard
from gen_cli.commands.run import finish
from gen_cli.progress import progress_on
from gen_cli.show import as_json


def sample(
    run: RunDir,
    n: Annotated[int | None, typer.Option("-n", min=1, help="How many; default: the recipe's number.")] = None,
    shard_: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only the I-th of N shares, e.g. 2/8.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Another sampler, e.g. ddim.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="npy, envi, hdf5, ...")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the files go.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed gives other samples.")] = None,
    device: Device = None,
    redo: Redo = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Draw samples with manifest and data card; the same bytes for any number and any sharding."""
    part = shard(shard_) if shard_ else (1, 1)
    asked = (n, shard_, steps, sampler, format_, out, seed)
    from gen_core.run import api

    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        if all(value is None for value in asked):
            overrides = (f'device="{device}"',) if device else ()
            outcome = api.run_single(run, "sample", overrides, redo=redo, progress=progress)
        else:
            if n is None:
                n = api.open_run(run)[0].sample.n
            made = api.sample_more(
                run,
                n,
                shard=part,
                steps=steps,
                sampler=sampler,
                format=format_,
                out=out,
                seed=seed,
                device=device,
                progress=progress,
            )
            outcome = None
    if outcome is not None:
        finish(outcome, json_)
    elif json_:
        as_json(made)
    else:
        typer.echo(f"{made['samples']} samples: {made['folder']}")
