"""`gen sweep`: a recipe run with several settings, each a run of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Device, Json, Set, numbers
from gen_cli.commands.run import OFFLINE
from gen_cli.launchers import arguments as slurm
from gen_cli.launchers.words import run_words
from gen_cli.progress import PlainProgress
from gen_cli.show import as_json, count, table


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of an installed recipe.")],
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=A,B,C", help="Values of a setting. Repeatable: every combination is run."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="Run everything once for each seed.")] = None,
    child: Annotated[
        list[str] | None, typer.Option("--child", metavar="NAME", help="Only this child. Repeatable.")
    ] = None,
    max_parallel: Annotated[int, typer.Option(min=1, metavar="N", help="Children at work at once.")] = 1,
    optuna: Annotated[
        int, typer.Option("--optuna", min=0, metavar="N", help="Instead of the grid: N trials in [sweep.search].")
    ] = 0,
    minimize: Annotated[str, typer.Option(metavar="SCORE", help="What trials look at, e.g. hyperspectral-fid.")] = "",
    maximize: Annotated[str, typer.Option(metavar="SCORE", help="The same, for a score that should be high.")] = "",
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the sweep; default runs/NAME.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STEP", help="Stop every child after this step.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the children and what they share.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Every child with tiny networks: does it run?")] = False,
    device: Device = None,
    offline: Annotated[bool, typer.Option("--offline", help="Keep libraries from asking any server.")] = False,
    launcher: slurm.Launcher = "local",
    nodes: slurm.Nodes = None,
    gpus_per_node: slurm.GpusPerNode = None,
    time: slurm.Time = None,
    partition: slurm.Partition = None,
    account: slurm.Account = None,
    qos: slurm.Qos = None,
    mem_gb: slurm.MemGb = None,
    cpus_per_task: slurm.CpusPerTask = None,
    slurm_: slurm.More = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Run the children of [sweep], or of --grid, side by side in one folder; equal steps are done once.

    The same command goes on where it stopped. Exit 5 when a child failed, after all others have run.
    """
    if offline:
        os.environ.update(dict.fromkeys(OFFLINE, "1"))
    job = slurm.slurm_options(
        launcher,
        slurm_,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        minutes=time,
        partition=partition,
        account=account,
        qos=qos,
        mem_gb=mem_gb,
        cpus_per_task=cpus_per_task,
    )
    from gen_core.errors import RunError, UsageError
    from gen_core.run.studies import sweep as sweeps

    if minimize and maximize:
        raise UsageError("give --minimize or --maximize, not both")
    if optuna and (grid or seeds or child or dry_run or job):
        raise UsageError(
            "--optuna goes without --grid, --seeds, --child, --dry-run and --launcher slurm: "
            "it finds its settings as it goes"
        )
    request = sweeps.SweepRequest(
        recipe=recipe,
        overrides=tuple(set_ or ()),
        grid=tuple(grid or ()),
        seeds=numbers(seeds) if seeds else (),
        only=tuple(child or ()),
        out=out,
        until_step=until,
        device=device,
        offline=offline,
        smoke=smoke,
        max_parallel=max_parallel,
        trials=optuna,
        aim=minimize or maximize,
        maximize=bool(maximize),
    )
    if dry_run:
        plan = sweeps.plan_sweep(request)
        as_json(plan) if json_ else print_plan(plan)
        return
    if job is not None:
        from gen_cli.launchers.queue import queue_sweep, tell

        tell(queue_sweep(request, job), json_)
        return
    # a single child may draw its own live display on our terminal
    progress = PlainProgress(sys.stderr if json_ else sys.stdout) if json_ or max_parallel > 1 else None
    outcome = sweeps.sweep(request, run_words, progress)
    if json_:
        as_json({"folder": str(outcome.folder), "children": outcome.children})
    else:
        shown = [{**row, "settings": words(row["settings"])} for row in outcome.children]
        values = ["value"] if optuna else []
        table([{**row, "child": row["name"]} for row in shown], ["child", "state", *values, "settings"])
        typer.echo(f"compare: gen compare {outcome.folder}")
    if outcome.failed:
        why = {row["name"]: row.get("why", "").splitlines()[-1:] for row in outcome.children}
        lines = [f"{name}: {' '.join(why[name])}" for name in outcome.failed]
        children = "child" if len(lines) == 1 else "children"
        raise RunError(f"{len(lines)} {children} failed:\n  " + "\n  ".join(lines))


def words(settings: dict[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(f"{key} = {value}" for key, value in settings.items())


def print_plan(plan: dict[str, Any]) -> None:
    """The dry run in words."""
    children = plan["children"]
    typer.echo(f"{plan['sweep']}: {len(children)} children in {plan['folder']}; nothing is done, this is the plan\n")
    rows = []
    for child in children:
        sizes = {name: count(n) for name, n in child["parameters"].items() if "." not in name}
        rows.append(
            {
                "child": child["name"],
                "does": [s for s in child["computed"] if s.startswith(("fit", "prepare"))],
                "takes": list(dict.fromkeys(child["shared"].values())),
                "parameters": sizes,
                "settings": words(child["settings"]),
            }
        )
    table(rows, ["child", "does", "takes", "parameters", "settings"])
    for line in dict.fromkeys(line for child in children for line in child["missing"]):
        typer.echo(f"missing: {line}")
