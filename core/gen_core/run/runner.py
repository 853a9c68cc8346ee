"""Walking the graph: skip what is done, go on with what is half done, refuse what was changed, take what is equal."""

from __future__ import annotations

import errno
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gen_core import atomic
from gen_core.errors import RunError, UsageError
from gen_core.run.context import RunContext
from gen_core.run.fingerprint import differences
from gen_core.run.folder import computing, find_equal, read_json
from gen_core.run.graph import StepSpec, downstream
from gen_core.run.steps import work_of

STARTED = "started.json"
DERIVED = ("reject", "evaluate", "report")  # cheap to make again from what lies upstream: a change just redoes them
NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def check_names(steps: list[StepSpec], *names: str | None) -> None:
    """Refuse a step name that this recipe does not have."""
    known = [s.name for s in steps]
    for name in names:
        if name and name not in known:
            raise UsageError(f"this recipe has no step '{name}'; its steps: {', '.join(known)}")


def fingerprints(ctx: RunContext, steps: list[StepSpec]) -> dict[str, str]:
    """Step name -> fingerprint. A step taken `from` another run bears that run's."""
    prints: dict[str, str] = {}
    for step in steps:
        origin = taken_from(ctx, step)
        if origin is not None:
            prints[step.name] = read_json(origin / "done.json")["fingerprint"]
        else:
            prints[step.name] = step.print(prints)
    return prints


def taken_from(ctx: RunContext, step: StepSpec) -> Path | None:
    """The finished step folder that `[table] from = RUN` names, or None."""
    if not step.table or not ctx.recipe.table(step.table).from_:
        return None
    run = Path(ctx.recipe.table(step.table).from_)
    folder = run / "steps" / step.name
    done = read_json(folder / "done.json")
    if not done:
        raise UsageError(f'{ctx.recipe.path}: [{step.table}] from = "{run}": no finished {folder}')
    return (folder / done["reference"]).resolve() if done.get("reference") else folder


def changed(ctx: RunContext, steps: list[StepSpec], prints: dict[str, str]) -> dict[str, list[str]]:
    """Steps that were started with other settings -> the lines that differ."""
    found = {}
    for step in steps:
        started = read_json(ctx.folder.path / "steps" / step.name / STARTED)
        if not started or started.get("fingerprint") == prints[step.name]:
            continue
        lines = differences(started.get("settings", {}), step.settings)
        if lines or not set(step.upstream) & found.keys():
            found[step.name] = lines or ["made from other upstream results"]
    return found


def walk(
    ctx: RunContext, steps: list[StepSpec], *, only: str | None, until: str | None, redo_from: str | None
) -> list[dict[str, Any]]:
    """Do every step that is not done. Returns a row a step: name, state, seconds.

    Raises: UsageError when settings changed since a step was started; whatever a step raises.
    """
    check_names(steps, only, until, redo_from)
    prints = fingerprints(ctx, steps)
    for name, lines in list(changed(ctx, steps, prints).items()):
        if name in DERIVED:
            ctx.progress.say(f"{name}: settings changed, made again: " + "; ".join(lines))
            _clear(ctx, name)
            continue
        raise UsageError(
            f"{ctx.folder.path}: step '{name}' was made with other settings:\n  "
            + "\n  ".join(lines)
            + "\nKeep both with --fork NAME (equal steps are shared), or set the old values again."
        )
    if redo_from:
        for name in downstream(steps, redo_from):
            _clear(ctx, name)
    rows = []
    for step in steps:
        if only and step.name != only:
            continue
        rows.append(_do(ctx, step, prints))
        if step.name == until:
            break
    return rows


def _clear(ctx: RunContext, name: str) -> None:
    folder = ctx.folder.path / "steps" / name
    (folder / "done.json").unlink(missing_ok=True)  # first, so that a kill leaves an unfinished step
    shutil.rmtree(folder, ignore_errors=True)


def _do(ctx: RunContext, step: StepSpec, prints: dict[str, str]) -> dict[str, Any]:
    name, print_ = step.name, prints[step.name]
    done = ctx.folder.done(name)
    if done and done.get("fingerprint") == print_:
        ctx.progress.step_started(name, "done before")
        return {"step": name, "state": "skipped", "seconds": 0.0}
    for upstream in step.upstream:
        if ctx.folder.done(upstream) is None:
            raise UsageError(f"step '{name}' needs '{upstream}', which is not finished in {ctx.folder.path}")
    try:
        if name in DERIVED or name == "sample":
            return _compute(ctx, step, print_, None)
        with computing(ctx.folder.path.parent, print_, _patience(ctx, name)):
            origin = taken_from(ctx, step) or find_equal(ctx.folder.path.parent, name, print_, ctx.folder.path)
            return _compute(ctx, step, print_, origin)
    except OSError as error:
        raise_clear(error, ctx.folder.path / "steps" / name)


def _patience(ctx: RunContext, name: str) -> Callable[[], None]:
    """What to do while another run computes the same step: say so once, and stop when asked."""
    told = False

    def waiting() -> None:
        nonlocal told
        if not told:
            ctx.progress.step_started(name, "another run computes it, waits")
        told = True
        ctx.check_stop()

    return waiting


def _compute(ctx: RunContext, step: StepSpec, print_: str, origin: Path | None) -> dict[str, Any]:
    """Take a step from `origin` by reference, or do its work."""
    name, folder = step.name, ctx.folder.path / "steps" / step.name
    head = {"fingerprint": print_, "settings": step.settings}
    folder.mkdir(parents=True, exist_ok=True)
    if origin is not None:
        ctx.folder.refer(name, origin, head)
        ctx.progress.step_started(name, f"taken from {origin}")
        return {"step": name, "state": "shared", "seconds": 0.0}
    resumed = (folder / STARTED).exists()
    atomic.write_json(folder / STARTED, head)
    ctx.progress.step_started(name, "goes on" if resumed else "")
    start = time.perf_counter()
    extra: dict[str, Any] = {}
    try:
        record = work_of(step)(ctx, step, folder)
        extra = record.pop("cost", {})
    finally:
        seconds = time.perf_counter() - start
        _spend(ctx, folder, seconds, extra)
    ctx.folder.finish(name, {**head, **record})
    ctx.progress.step_finished(name, seconds, "")
    write_cost(ctx)
    return {"step": name, "state": "done", "seconds": seconds}


def raise_clear(error: OSError, folder: Path) -> NoReturn:
    """A full disk or an unwritable folder is told in one line; other errors go on as they are."""
    where = error.filename or folder
    if error.errno in NO_ROOM:
        raise RunError(f"{where}: {NO_ROOM[error.errno]}; free some space and run the same command again") from error
    if error.errno in NO_RIGHT:
        raise RunError(f"{where}: cannot write here ({error.strerror})") from error
    raise error


def _spend(ctx: RunContext, folder: Path, seconds: float, extra: dict[str, Any]) -> None:
    """Add the time of this attempt to the step's cost.json."""
    cost = read_json(folder / "cost.json") or {"seconds": 0.0, "attempts": 0}
    cost["seconds"] = round(cost["seconds"] + seconds, 3)
    cost["attempts"] += 1
    cost["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if ctx.device.type == "cuda":
        import torch

        cost["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated(ctx.device) / 2**20)
    for key, value in extra.items():
        cost[key] = cost.get(key, 0) + value
    try:
        atomic.write_json(folder / "cost.json", cost)
    except OSError:
        return  # the step's own error, if any, says more than a missing cost entry


def machine(ctx: RunContext) -> dict[str, Any]:
    """What the figures in cost.json were measured on."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    found = {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(ctx.device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if ctx.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(ctx.device)
    return found


def write_cost(ctx: RunContext) -> None:
    """Sum up every step's cost in the run's cost.json."""
    steps = ctx.cost()
    evaluated = ctx.folder.path / "steps" / "evaluate" / "timed.json"
    atomic.write_json(
        ctx.folder.path / "cost.json",
        {
            "machine": machine(ctx),
            "total_seconds": round(sum(s.get("seconds", 0.0) for s in steps.values()), 3),
            "steps": steps,
            "timed": read_json(evaluated) or {},
        },
    )
