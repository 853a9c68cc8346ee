"""Walking the graph: skip what is done, go on with what is half done, refuse what was changed, take what is equal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.errors import RunError, UsageError
from gen_core.run.changes import STARTED, changed, fingerprints, started_with, taken_from
from gen_core.run.context import RunContext
from gen_core.run.cost import spend, write_cost
from gen_core.run.failures import raise_clear, raise_smaller
from gen_core.run.folder import DONE, LOOKED_THROUGH, computing, find_equal, write_sealed
from gen_core.run.graph import StepSpec, build_graph, downstream
from gen_core.run.samples.outputs import MANIFEST, verify_manifest
from gen_core.run.steps.work import work_of
from gen_core.run.tracking.beside import tracked

DERIVED = ("reject", "evaluate", "report")  # cheap to make again from what lies upstream: a change just redoes them


def check_names(steps: list[StepSpec], *names: str | None) -> None:
    """Refuse a step name that this recipe does not have."""
    known = [s.name for s in steps]
    for name in names:
        if name and name not in known:
            raise UsageError(f"this recipe has no step '{name}'; its steps: {', '.join(known)}")


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
    with tracked(ctx):  # only now: a run that is refused has nothing to tell
        rows = []
        for step in steps:
            if only and step.name != only:
                continue
            rows.append(_pass(ctx, step, steps, prints[step.name], [] if only is None else step.upstream))
            if step.name == until:
                break
        return rows


def _pass(
    ctx: RunContext, step: StepSpec, steps: list[StepSpec], print_: str, to_check: Sequence[str]
) -> dict[str, Any]:
    """Do a step unless it is done; its row."""
    if _is_done(ctx, step, print_):
        return {"step": step.name, "state": "skipped", "seconds": 0.0}
    _require(ctx, step, to_check)
    for name in downstream(steps, step.name):  # what was derived from this step goes with it
        if name in DERIVED and name != step.name:
            _clear(ctx, name)
    return _do(ctx, step, print_)


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
        raise_smaller(error, name)


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
    started = started_with(folder)
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
        spend(ctx, folder, seconds, extra)
    ctx.folder.finish(name, {**head, **record}, published)
    ctx.progress.step_finished(name, seconds, "")
    write_cost(ctx)
    return {"step": name, "state": "done", "seconds": seconds}
