"""The folder of a run: its lock, its steps, and the proof that a step is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gen_core import atomic
from gen_core.errors import RunError

LOCK_RECIPE = "recipe.lock.toml"
DONE = "done.json"
SEAL = "sha256"  # the key of a JSON file's own hash
LOOKED_THROUGH = 64 << 20  # bytes of a finished step that are hashed whenever it is used; beyond, sizes are compared
_SEALED = re.compile(r"^gen = (\S+)  # SHA-256 of all else: ([0-9a-f]{64})$", re.MULTILINE)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None when it is absent or damaged."""
    try:
        return atomic.json_object(path)
    except (OSError, ValueError):
        return None


def write_sealed(path: Path, data: dict[str, Any]) -> None:
    """Write JSON with its own hash, atomically."""
    atomic.write_json(path, {**data, SEAL: _hash_of(data)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The JSON in `path`, or None when it is absent, damaged, or not what its own hash says."""
    data = read_json(path)
    if data is None or data.pop(SEAL, None) not in (None, _hash_of(data)):
        return None
    return data


def _hash_of(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def write_lock(path: Path, recipe: str) -> None:
    """Write the locked recipe with the hash of all its other text behind `gen = 1`, atomically."""
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    behind = rf"\1  # SHA-256 of all else: {digest}"
    atomic.write_text(path, re.sub(r"^(gen = \S+)$", behind, recipe, count=1, flags=re.MULTILINE))


def check_lock(path: Path) -> None:
    """Raises: RunError when a locked recipe does not match its hash; one without a hash is taken as it is."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: unreadable ({error})") from None
    found = _SEALED.search(text)
    if found and hashlib.sha256(_SEALED.sub(r"gen = \1", text).encode()).hexdigest() != found.group(2):
        raise RunError(f"{path}: damaged or edited; `gen run RECIPE --out {path.parent}` writes it again")


class RunFolder:
    """`runs/NAME/`: recipe.lock.toml, events.jsonl, steps/<step>/, samples/, metrics.json, cost.json, report.html."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / LOCK_RECIPE).exists()

    def step(self, name: str) -> Path:
        """Where a step writes; follows a reference to another run's equal step."""
        own = self.path / "steps" / name
        done = read_sealed(own / DONE)
        if done and done.get("reference"):
            target = (own / done["reference"]).resolve()
            if not (target / DONE).exists():
                raise RunError(f"{own}: refers to {target}, which is gone; delete {own} to compute it here")
            return target
        return own

    def done(self, name: str) -> dict[str, Any] | None:
        """What `finish` or `refer` recorded for a step, None while it is not done (or its record is damaged)."""
        return read_sealed(self.path / "steps" / name / DONE)

    def cost(self) -> dict[str, Any]:
        """cost.json: `machine`, `steps` and `timed` are dicts where they are; {} where it is absent or damaged."""
        found = read_json(self.path / "cost.json") or {}
        tables = [found.get(name, {}) for name in ("machine", "steps", "timed")]
        steps = tables[1].values() if isinstance(tables[1], dict) else ()
        whole = all(isinstance(table, dict) for table in (*tables, *steps))
        return found if whole and isinstance(found.get("total_seconds", 0.0), int | float) else {}

    def finish(self, name: str, record: dict[str, Any], published: Iterable[str] = ()) -> None:
        """Mark a step done: the last thing it writes. `record` holds fingerprint, settings and figures.

        Every file of the step enters with its SHA-256 and size, so that `gen runs verify` can check it.
        published: files of the step that lie elsewhere in the run's folder; they enter likewise.
        """
        folder = self.path / "steps" / name
        own = (
            file
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != DONE and "checkpoints" not in file.relative_to(folder).parts
        )
        files = {os.path.relpath(f, folder): _seen(f) for f in [*own, *(self.path / name for name in published)]}
        write_sealed(folder / DONE, {**record, "files": files})

    def problems(self, name: str) -> list[str]:
        """What is wrong with a finished step, own or referred to; small steps by content, large ones by size."""
        return verify_step(self.path / "steps" / name, LOOKED_THROUGH)

    def refer(self, name: str, target: Path, record: dict[str, Any]) -> None:
        """Take an equal step of another run by reference."""
        folder = self.path / "steps" / name
        atomic.make_folder(folder)
        write_sealed(folder / DONE, {**record, "reference": os.path.relpath(target.resolve(), folder.resolve())})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder and sweep it: one run at a time. Raises: RunError when held."""
        with held(self.path):
            atomic.sweep(self.path)
            yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing; the lock dies with its process. Raises: RunError when held."""
    try:
        atomic.make_folder(path)
        handle = (path / ".lock").open("w")
    except OSError as error:
        raise RunError(f"{path}: cannot write here ({error.strerror}); choose another --out") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{path}: another `gen` process is working in this folder") from None
        yield


@contextmanager
def computing(root: Path, print_: str, waiting: Callable[[], None]) -> Iterator[None]:
    """The right to compute the step of this fingerprint among the runs under `root`; it dies with its process.

    waiting: called before each pause while another process has it; may raise to give up.
    """
    byte = int(print_[:15], 16)  # of one file for all steps: a byte may be locked beyond a file's end
    try:
        handle = (root / ".computing").open("w")
    except OSError:
        yield  # nobody can start another run here
        return
    with handle:
        while not _locked(handle, byte):
            waiting()
            time.sleep(0.2)
        yield


def _locked(handle: IO[str], byte: int) -> bool:
    """Try to lock one byte of a file; a file system without locks gives it to everyone."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def find_equal(root: Path, name: str, print_: str, other_than: Path) -> Path | None:
    """A finished and undamaged step with this fingerprint in a sibling run under `root`, or None."""
    for done in sorted(root.glob(f"*/steps/{name}/{DONE}")):
        record = read_sealed(done)
        if not record or record.get("fingerprint") != print_ or record.get("reference"):
            continue
        if other_than.resolve() in done.resolve().parents or verify_step(done.parent, LOOKED_THROUGH):
            continue
        return done.parent
    return None


def _seen(file: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(file), "bytes": file.stat().st_size}


def verify_step(folder: Path, most: int | None = None) -> list[str]:
    """Problems of a finished step: missing, changed or truncated files, one line each.

    most: bytes looked through, of the smaller files first; None: all.
    """
    record = read_sealed(folder / DONE)
    if record is None:
        return [f"{folder}: not finished"]
    if record.get("reference"):
        target = (folder / record["reference"]).resolve()
        return (
            verify_step(target, most) if (target / DONE).exists() else [f"{folder}: refers to {target}, which is gone"]
        )
    problems = []
    files = sorted(record.get("files", {}).items(), key=lambda item: item[1]["bytes"])
    for name, expected in files:
        path = Path(os.path.normpath(folder / name))
        most = None if most is None else most - expected["bytes"]
        if not path.exists():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != expected["bytes"]:
            problems.append(f"{path}: {path.stat().st_size} bytes, expected {expected['bytes']}")
        elif (most is None or most >= 0) and sha256_file(path) != expected["sha256"]:
            problems.append(f"{path}: content changed (SHA-256 differs)")
    return problems
