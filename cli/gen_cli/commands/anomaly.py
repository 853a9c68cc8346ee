"""`gen anomaly`: where volumes differ from what a diffusion run makes of them after partial noising."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Device, Json, RunDir, numbers
from gen_cli.progress import progress_on
from gen_cli.show import as_json, number, table

COLUMNS = ("auroc voxels", "average precision", "dice", "threshold")


def anomaly(
    run: RunDir,
    input_: Annotated[
        str, typer.Option("--input", metavar="PATH", help="train, val, test, or a file or folder of volumes.")
    ],
    t: Annotated[str, typer.Option("--t", metavar="T,...", help="Times, in steps of T.")] = "300,200,100,50,25",
    masks: Annotated[
        str | None, typer.Option(metavar="PATH", help="Their masks: a file, a folder, or a pattern with {id}, {stem}.")
    ] = None,
    mask: Annotated[str | None, typer.Option(metavar="NAME", help="Which mask marks the anomalies.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where maps, figure and results go.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Draws of noise that a map is the mean of.")] = 1,
    sampler: Annotated[str | None, typer.Option(help="Another sampler, e.g. ddpm.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps from T to 0, of which those below t are taken.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME=VALUE",
            help="What the prior is told, e.g. kind=healthy, MASK=empty, age=own (the volume's). Repeatable.",
        ),
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Classifier-free guidance; 1 = none.")] = None,
    smooth: Annotated[float, typer.Option(min=0.0, help="Smooth maps by a Gaussian of so many voxels (sd).")] = 0.0,
    minus_codec: Annotated[
        bool, typer.Option("--minus-codec", help="Take off what the codec alone gets wrong.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed gives other noise.")] = 0,
    batch: Annotated[int | None, typer.Option(min=1, help="Latents denoised at once; default: [sample] batch.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="The first so many volumes only; 0 = all.")] = 0,
    format_: Annotated[str, typer.Option("--format", help="Write maps as nifti, envi, ... beside npy.")] = "npy",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set that reads PATH. Repeatable."),
    ] = None,
    device: Device = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Anomaly maps and scores over t; AUROC and Dice where masks say what is anomalous."""
    from gen_core.errors import UsageError

    given = {}
    for pair in condition or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--condition {pair}: expected NAME=VALUE")
        given[name] = value
    times = numbers(t)
    from gen_core.run.anomaly import find as anomalies

    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        found = anomalies.find_anomalies(
            run,
            input_,
            times,
            masks=masks,
            mask=mask,
            out=out,
            n=n,
            sampler=sampler,
            steps=steps,
            conditions=given,
            guidance=guidance,
            smooth=smooth,
            minus_codec=minus_codec,
            seed=seed,
            batch=batch,
            limit=limit,
            format=format_,
            overrides=tuple(set_ or ()),
            device=device,
            progress=progress,
        )
    if json_:
        as_json(found)
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    """The table over t, what was said, and where the files are."""
    rows = []
    for row in found["times"]:
        shown = {"t": row["t"], "steps": row["steps"], "score": number(row["score"])}
        shown |= {name: number(row[name]) for name in COLUMNS if name in row}
        if "auroc volumes" in row:
            shown["auroc volumes"] = number(next(iter(row["auroc volumes"].values())))
        rows.append(shown)
    table(rows, list(rows[0]))
    for line in found["said"]:
        typer.echo(f"! {line}")
    if found["best"]:
        typer.echo(f"best t: {found['best']['t']} (by {found['best']['by']})")
    typer.echo(f"{len(found['volumes'])} volumes: {found['folder']}")
