"""Walking the graph: skip what is done, go on with what is half done, refuse what was changed, take what is equal."""

from __future__ import annotations

import errno
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gen_core import atomic
from gen_core.errors import RunError, UsageError
from gen_core.run.context import RunContext
from gen_core.run.fingerprint import differences
from gen_core.run.folder import DONE, LOOKED_THROUGH, computing, find_equal, read_json, read_sealed, write_sealed
from gen_core.run.graph import StepSpec, build_graph, downstream
from gen_core.run.samples.outputs import MANIFEST, verify_manifest
from gen_core.run.steps.work import work_of

STARTED = "started.json"
DERIVED = ("reject", "evaluate", "report")  # cheap to make again from what lies upstream: a change just redoes them
NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this system allows",
}
SMALLER = {  # step -> what makes it need less memory
    "encode": "[encode] batch = 1",
    "sample": "a smaller [sample] batch",
    "reject": "a smaller [evaluate] batch",
    "evaluate": "a smaller [evaluate] batch",
}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
LOST = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO}


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
            prints[step.name] = (read_sealed(origin / DONE) or {})["fingerprint"]
        else:
            prints[step.name] = step.print(prints)
    return prints


def taken_from(ctx: RunContext, step: StepSpec) -> Path | None:
    """The finished step folder that `[table] from = RUN` names, or None."""
    if not step.table or not ctx.recipe.table(step.table).from_:
        return None
    run = Path(ctx.recipe.table(step.table).from_)
    folder = run / "steps" / step.name
    done = read_sealed(folder / DONE)
    if not done:
        raise UsageError(f'{ctx.recipe.path}: [{step.table}] from = "{run}": no finished {folder}')
    return (folder / done["reference"]).resolve() if done.get("reference") else folder


def changed(ctx: RunContext, steps: list[StepSpec], prints: dict[str, str]) -> dict[str, list[str]]:
    """Steps that were started with other settings -> the lines that differ."""
    found = {}
    for step in steps:
        started = _started(ctx.folder.path / "steps" / step.name)
        if not started or started.get("fingerprint") == prints[step.name]:
            continue
        lines = differences(started.get("settings", {}), step.settings)
        if lines or not set(step.upstream) & found.keys():
            found[step.name] = lines or ["made from other upstream results"]
    return found


def _started(folder: Path) -> dict[str, Any] | None:
    """With what a step was begun, None where it was not. Raises: RunError when that cannot be told."""
    started = read_sealed(folder / STARTED)
    if started is None and (folder / STARTED).exists():
        raise RunError(f"{folder / STARTED}: damaged: with which settings? Delete {folder} to begin that step again")
    return started


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
        if not _is_done(ctx, step, prints[step.name]):
            _require(ctx, step, [] if only is None else step.upstream)
            for name in downstream(steps, step.name):  # what was derived from this step goes with it
                if name in DERIVED and name != step.name:
                    _clear(ctx, name)
            rows.append(_do(ctx, step, prints[step.name]))
        else:
            rows.append({"step": step.name, "state": "skipped", "seconds": 0.0})
        if step.name == until:
            break
    return rows


def follow(ctx: RunContext) -> None:
    """In every process but the first: share the steps that it calls to, until it has done."""
    steps: dict[str, StepSpec] = {}
    while (name := ctx.ranks.told()) is not None:
        # built only now: the first process may have prepared the data meanwhile
        steps = steps or {s.name: s for s in build_graph(ctx.recipe, ctx.dataset.fingerprint(), ctx.smoke)}
        work_of(steps[name])(ctx, steps[name], ctx.folder.path / "steps" / name)


def _clear(ctx: RunContext, name: str) -> None:
    atomic.remove_folder(ctx.folder.path / "steps" / name)


def _is_done(ctx: RunContext, step: StepSpec, print_: str) -> bool:
    """Whether there is nothing to do; a finished step that lost or changed a file is to be done again."""
    done = ctx.folder.done(step.name)
    if not done or done.get("fingerprint") != print_:
        return False
    problems = ctx.folder.problems(step.name)
    if step.name == "sample":
        problems += _sample_problems(ctx.folder.path / "samples")
    if not problems:
        ctx.progress.step_started(step.name, "done before")
        return True
    more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
    ctx.progress.say(f"{step.name}: made again: {problems[0]}{more}")
    (ctx.folder.path / "steps" / step.name / DONE).unlink()
    return False


def _sample_problems(samples: Path) -> list[str]:
    """What is wrong with the published samples, which lie outside of the step's folder."""
    if not (samples / MANIFEST).exists():
        return [f"{samples / MANIFEST}: missing"]
    return verify_manifest(samples, LOOKED_THROUGH)


def _require(ctx: RunContext, step: StepSpec, to_check: Sequence[str]) -> None:
    """Raises: UsageError when a step upstream is not finished, RunError when one of `to_check` is damaged."""
    for upstream in step.upstream:
        if ctx.folder.done(upstream) is None:
            raise UsageError(f"step '{step.name}' needs '{upstream}', which is not finished in {ctx.folder.path}")
        for problem in ctx.folder.problems(upstream) if upstream in to_check else ():
            raise RunError(f"{problem}; `gen run` makes step '{upstream}' again")


def _do(ctx: RunContext, step: StepSpec, print_: str) -> dict[str, Any]:
    name = step.name
    try:
        if name in DERIVED or name == "sample":
            return _compute(ctx, step, print_, None)
        with computing(ctx.folder.path.parent, print_, _patience(ctx, name)):
            origin = taken_from(ctx, step) or find_equal(ctx.folder.path.parent, name, print_, ctx.folder.path)
            return _compute(ctx, step, print_, origin)
    except OSError as error:
        raise_clear(error, ctx.folder.path / "steps" / name)
    except (RuntimeError, MemoryError) as error:
        from gen_core.engine.rollback import out_of_memory

        if not out_of_memory(error):
            raise
        smaller = SMALLER.get(name, "a smaller volume or network")
        raise RunError(f"{name}: out of memory; try {smaller}, and run the same command again") from error


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
    started = _started(folder)
    if started is None and folder.exists() and any(folder.iterdir()):
        ctx.progress.say(f"{name}: begins again: {folder / STARTED} is missing, so what lies there may be of anything")
        _clear(ctx, name)
    atomic.make_folder(folder)
    if origin is not None:
        ctx.folder.refer(name, origin, head)
        ctx.progress.step_started(name, f"taken from {origin}")
        return {"step": name, "state": "shared", "seconds": 0.0}
    write_sealed(folder / STARTED, head)
    ctx.progress.step_started(name, "goes on" if started else "")
    start = time.perf_counter()
    extra: dict[str, Any] = {}
    published: Sequence[str] = ()
    try:
        record = work_of(step)(ctx, step, folder)
        extra, published = record.pop("cost", {}), record.pop("published", ())
    finally:
        seconds = time.perf_counter() - start
        _spend(ctx, folder, seconds, extra)
    ctx.folder.finish(name, {**head, **record}, published)
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
    if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):  # as `tempfile` says it
        raise RunError(f"no folder for temporary files ({error.strerror}); set TMPDIR to one") from error
    if error.errno in LOST:
        raise RunError(f"{where}: the disk fails ({error.strerror}); run the same command when it is back") from error
    raise error


def _spend(ctx: RunContext, folder: Path, seconds: float, extra: dict[str, Any]) -> None:
    """Add the time of this attempt to the step's cost.json."""
    cost = read_json(folder / "cost.json")
    if not isinstance(cost, dict) or not {"seconds", "attempts"} <= cost.keys():
        cost = {"seconds": 0.0, "attempts": 0}
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
    if ctx.ranks.world > 1:
        found["processes"] = ctx.ranks.world
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
