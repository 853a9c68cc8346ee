"""`gen runs`: the runs on disk, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Json
from gen_cli.show import as_json, duration, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Runs on disk: list, verify.")


@app.command("list")
def list_(
    root: Annotated[Path, typer.Argument(help="Folder that holds run folders.")] = Path("runs"),
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Every run under a folder: steps done, unfinished steps, time, report."""
    from gen_core.run import listing

    rows = listing.list_runs(root)
    if json_:
        as_json(rows)
        return
    shown = [
        {**r, "time": duration(r.get("seconds")), "report": r.get("report"), "steps": len(r.get("done", []))}
        for r in rows
    ]
    table(shown, ["run", "steps", "unfinished", "time", "folder", "report"], f"no runs in {root}")


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run.")],
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Check every finished step and sample file of a run against its checksum; exit 5 when something is wrong."""
    from gen_core.run import listing

    problems = listing.verify_run(run)
    if json_:
        as_json({"run": str(run), "whole": not problems, "problems": problems})
    elif not problems:
        typer.echo(f"{run}: whole")
    for line in problems:
        typer.echo(line, err=True)
    if problems:
        raise typer.Exit(5)
