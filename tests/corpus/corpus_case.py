"""A malformed file, the command that meets it, and what this must say; and the ways in which any file is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from attrs import field, frozen

INSPECT, VALIDATE = ("data", "inspect"), ("recipes", "validate")
LOADERS = ("load-checkpoint", "load-weights", "load-foreign")
PIPE = b"\0pipe"  # stands for a named pipe, which has no content
LINK = b"\0link "  # stands for a link to what follows
HERE = b"<here>"  # stands for the case's folder in a file
BIG = 1 << 20
RECIPE, DATA, RUN = 2, 4, 5  # exit codes


@frozen
class Case:
    """files: name -> content. says: what the one line must hold. code: what the command must end with."""

    name: str
    files: dict[str, bytes]
    words: tuple[str, ...]
    code: int
    says: tuple[str, ...] = ()
    lines: int = field(default=1)  # of the message: a recipe has one a mistake


def write(case: Case, folder: Path) -> Path:
    """The case's folder, filled."""
    here = folder / case.name
    here.mkdir(parents=True)
    for name, data in case.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = data.replace(HERE, str(here).encode())
        if data == PIPE:
            os.mkfifo(path)
            continue
        if data.startswith(LINK):
            path.symlink_to(os.fsdecode(data.removeprefix(LINK)))
            continue
        path.write_bytes(data.rstrip(b"\0"))
        os.truncate(path, len(data))  # zeros at the end take no room on the disk
    return here


def one(name: str, file: str, data: bytes, *says: str, command=INSPECT, code: int = DATA, **beside: bytes) -> Case:
    """A case of one file, which its message names."""
    return Case(name, {file: data, **beside}, (*command, f"{{}}/{file}"), code, (file, *says))


def damaged(
    kind: str, file: str, data: bytes, least: int = 1, shares=(0.1, 0.5, 0.9), **beside: bytes
) -> Iterator[Case]:
    """Cut off at several places, emptied, overwritten by zeros, and another kind of file under its name."""
    yield one(f"{kind}-empty", file, b"", **beside)
    yield one(f"{kind}-one-byte", file, data[:1], **beside)
    for share in shares:
        yield one(f"{kind}-cut-{round(100 * share)}", file, data[: int(share * len(data))], **beside)
    yield one(f"{kind}-cut-last", file, data[:-least], **beside)
    yield one(f"{kind}-zeros", file, bytes(len(data)), **beside)
    yield one(f"{kind}-noise", file, np.random.default_rng(5).bytes(3000), **beside)
    yield one(f"{kind}-text", file, b"this is no data file\n" * 99, **beside)
