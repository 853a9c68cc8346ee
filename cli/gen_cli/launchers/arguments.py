"""The options of `--launcher`, which `gen run` and `gen sweep` share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from gen_cli.launchers.slurm_options import SlurmOptions
from gen_core.errors import UsageError

# what the launcher itself says to sbatch: logs, arrays and the signal before the end
OURS = ("array", "error", "open_mode", "output", "requeue", "signal", "wrap")

Launcher = Annotated[
    Literal["local", "slurm"], typer.Option("--launcher", help="Run here, or as a job of a Slurm cluster.")
]
Nodes = Annotated[int | None, typer.Option(min=1, help="Slurm: nodes of a job; default 1.")]
GpusPerNode = Annotated[
    int | None, typer.Option(min=0, help="Slurm: GPUs, and tasks, of a node; default 1, 0 = one task without a GPU.")
]
Time = Annotated[int | None, typer.Option(min=1, metavar="MINUTES", help="Slurm: minutes of a job; default 240.")]
Partition = Annotated[str | None, typer.Option(help="Slurm: partition.")]
Account = Annotated[str | None, typer.Option(help="Slurm: account that pays.")]
Qos = Annotated[str | None, typer.Option(help="Slurm: quality of service.")]
MemGb = Annotated[float | None, typer.Option(min=0.1, help="Slurm: memory of a node in GB.")]
CpusPerTask = Annotated[int | None, typer.Option(min=1, help="Slurm: cores of a task.")]
More = Annotated[
    list[str] | None,
    typer.Option("--slurm", metavar="KEY=VALUE", help="Slurm: any other option of sbatch. Repeatable."),
]


def slurm_options(launcher: str, more: list[str] | None, **given: Any) -> SlurmOptions | None:
    """What was asked of Slurm, or None for a run here. given: fields of SlurmOptions, None where not said.

    Raises: UsageError for Slurm's options without `--launcher slurm`, for those the launcher sets itself, and for
    times too short to leave a checkpoint.
    """
    said = {name: value for name, value in given.items() if value is not None}
    if launcher != "slurm":
        if said or more:
            name = "time" if "minutes" in said else next(iter(said), "slurm").replace("_", "-")
            raise UsageError(f"--{name} is for jobs of a cluster: add --launcher slurm")
        return None
    options = SlurmOptions(**said, more=dict(map(_pair, more or [])))
    if options.minutes * 60 <= options.signal_s:
        raise UsageError(f"--time {options.minutes}: at least {options.signal_s // 60 + 1} minutes, or nothing is done")
    return options


def _pair(text: str) -> tuple[str, str | bool]:
    """ "mail-type=END" -> ("mail_type", "END"); "exclusive" -> ("exclusive", True). Raises: UsageError."""
    key, equals, value = text.partition("=")
    key = key.strip().removeprefix("--").replace("-", "_")
    if not key.isidentifier() or (equals and not value.strip()) or "\n" in text:
        raise UsageError(f"--slurm {text}: expected KEY=VALUE or KEY, for example mail-type=END")
    if key in OURS:
        raise UsageError(f"--slurm {text}: '{key.replace('_', '-')}' is set by the launcher itself")
    return key, value.strip() if equals else True
