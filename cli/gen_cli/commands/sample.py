"""`gen sample`: the sample step of a run, or more samples of a finished one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Device, Json, Redo, RunDir, shard
from gen_cli.commands.run import finish
from gen_cli.progress import progress_on
from gen_cli.show import as_json, sampling


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
    condition: Annotated[
        list[str] | None,
        typer.Option("--condition", metavar="NAME=VALUE", help="A condition for every sample; may be repeated."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="[NAME=]FILE", help="A mask file that every sample follows.")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="train, val, none, a .csv table or a run's folder.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Classifier-free guidance; 1 = none.")] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="KIND", help="Times of the steps: path, uniform, log-snr, edm.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it takes: time, disk, files, chunks; touch nothing.")
    ] = False,
    device: Device = None,
    redo: Redo = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Draw samples with manifest and data card; the same bytes for any number and any sharding."""
    part = shard(shard_) if shard_ else (1, 1)
    asked = (n, shard_, steps, sampler, format_, out, seed, condition, mask, conditions, guidance, spacing)
    from gen_core.run import api, opening
    from gen_core.run.samples import more

    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        if all(value is None for value in asked) and not dry_run:
            overrides = (f'device="{device}"',) if device else ()
            outcome = api.run_single(run, "sample", overrides, redo=redo, progress=progress)
        else:
            if n is None:
                n = opening.open_run(run)[0].sample.n
            made = more.sample_more(
                run,
                n,
                shard=part,
                steps=steps,
                sampler=sampler,
                format=format_,
                out=out,
                seed=seed,
                device=device,
                fixed=_fixed(run, condition or [], mask),
                conditions=conditions,
                guidance=guidance,
                spacing=spacing,
                dry_run=dry_run,
                progress=progress,
            )
            outcome = None
    if outcome is not None:
        finish(outcome, json_)
    elif json_:
        as_json(made)
    elif dry_run:
        typer.echo(f"{made['folder']}: nothing is drawn, this is the plan\n")
        sampling(made)
    else:
        typer.echo(f"{made['samples']} samples: {made['folder']}")


def _fixed(run: Path, given: list[str], mask: str | None) -> dict[str, str]:
    """NAME=VALUE pairs, and the mask under the name of the run's only mask where none is said."""
    from gen_core.errors import UsageError

    fixed = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--condition {pair}: expected NAME=VALUE")
        fixed[name] = value
    if mask is not None:
        name, equals, file = mask.partition("=")
        fixed |= {name: file} if equals else {_only_mask(run, mask): mask}
    return fixed


def _only_mask(run: Path, file: str) -> str:
    """The name of the run's one mask condition. Raises: UsageError where there is none, or several."""
    from gen_core.errors import UsageError
    from gen_core.run import opening

    masks = [name for name, table in opening.open_run(run)[0].conditions.items() if table.kind == "mask"]
    if len(masks) != 1:
        raise UsageError(f"--mask {file}: expected NAME=FILE; this run's masks: {', '.join(masks) or 'none'}")
    return masks[0]
