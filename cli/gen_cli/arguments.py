"""Arguments that several commands share, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_cli.failures import show_traces

Debug = Annotated[
    bool, typer.Option("--debug", callback=show_traces, is_eager=True, help="Show the traceback of an error.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. prior.fit.lr=1e-4. Repeatable."),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
RunDir = Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of a run, e.g. runs/quickstart.")]
Redo = Annotated[bool, typer.Option("--redo", help="Do the step, and all that follow from it, again.")]


def shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8). Raises: typer.BadParameter."""
    first, slash, last = text.partition("/")
    try:
        i, n = int(first), int(last)
    except ValueError:
        i = n = 0
    if not slash or not 1 <= i <= n:
        raise typer.BadParameter(f"'{text}': expected i/n with 1 <= i <= n, e.g. 2/8")
    return i, n


def size(text: str) -> tuple[int, int, int]:
    """ "16,224,224" -> (16, 224, 224). Raises: typer.BadParameter."""
    try:
        numbers = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or min(numbers) < 1:
        raise typer.BadParameter(f"'{text}': expected D,H,W, e.g. 16,224,224")
    return numbers


def wavelengths(text: str) -> list[float]:
    """ "450, 455, 460" -> [450.0, 455.0, 460.0]. Raises: typer.BadParameter."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise typer.BadParameter(f"'{text}': expected wavelengths in nm, e.g. 450,455,460")
    return found


def numbers(text: str) -> tuple[int, ...]:
    """ "0,1,2" -> (0, 1, 2). Raises: typer.BadParameter."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{text}': expected whole numbers, e.g. 0,1,2") from None
