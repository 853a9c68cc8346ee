"""`gen run`: a recipe from raw files to the report, or its plan."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gen_cli.arguments import Debug, Device, Json, Set
from gen_cli.launchers import arguments as slurm
from gen_cli.progress import progress_on
from gen_cli.show import about, as_json, count, duration, sampling, table

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")  # what hub libraries obey


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of an installed recipe.")],
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[
        Literal["auto", "must", "never"],
        typer.Option(help="Go on with what is in the folder, insist on it, or refuse it."),
    ] = "auto",
    fork: Annotated[
        str | None, typer.Option(metavar="NAME", help="A new run; steps with equal settings are shared.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Do this step, and all that follow, again.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STEP", help="Stop after this step.")] = None,
    only: Annotated[str | None, typer.Option(metavar="STEP", help="Do this step alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; touch nothing.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Every step at full volume size with tiny networks: does it run?")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole run.")] = None,
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
    """Run a recipe, from raw files to samples, scores and a report; the same command goes on where it stopped."""
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
    from gen_core.run import api

    request = api.RunRequest(
        recipe=recipe,
        overrides=tuple(set_ or ()),
        out=out,
        resume=resume,
        fork=fork,
        from_step=from_,
        until_step=until,
        only_step=only,
        dry_run=dry_run,
        smoke=smoke,
        seed=seed,
        device=device,
        offline=offline,
    )
    if dry_run:
        plan = api.plan(request)
        as_json(plan) if json_ else print_plan(plan)
        return
    if job is not None:
        from gen_cli.launchers.queue import queue_run, tell

        tell(queue_run(request, job), json_)
        return
    with progress_on(sys.stderr if json_ else sys.stdout) as progress:
        outcome = api.run(request, progress)
    finish(outcome, json_)


def finish(outcome: object, json_: bool) -> None:
    """Say where the results are."""
    if json_:
        as_json(outcome.to_json())
        return
    seconds = sum(row.get("seconds") or 0.0 for row in outcome.steps)
    typer.echo(f"done in {duration(seconds)}: {outcome.folder}")
    if outcome.report:
        typer.echo(f"report: {outcome.report}")


def print_plan(plan: dict) -> None:
    """The dry run in words."""
    typer.echo(f"{plan.get('recipe', '')}: nothing is done, this is the plan\n")
    rows = [{**row, "needs": row.get("after", [])} for row in plan.get("steps", [])]
    extra = [c for c in ("updates", "batch", "volumes") if any(c in row for row in rows)]
    table(rows, ["step", "state", *extra, "needs"])
    if plan.get("shapes"):
        typer.echo("\nshapes: " + "\n     -> ".join(plan["shapes"]))
    for name, n in plan.get("parameters", {}).items():
        typer.echo(f"parameters, {name}: {count(n)} ({n})")
    for name, gflop in plan.get("gflop", {}).items():
        typer.echo(f"compute, {name}: {about(gflop, 0.1)} GFLOP a volume")
    for name, gib in plan.get("memory_gib", {}).items():
        typer.echo(f"memory, {name}: {about(gib, 0.01)} GiB")
    if plan.get("sampling"):
        sampling(plan["sampling"])
    for line in plan.get("notes", []):
        typer.echo(f"note: {line}")
    for line in plan.get("missing", []):
        typer.echo(f"missing: {line}")
