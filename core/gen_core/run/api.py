"""What the command line calls: run, plan, single steps, more samples, other people's samples, runs on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, evolve, frozen

from gen_core import atomic
from gen_core.engine.device import resolve_device
from gen_core.engine.join import device_of, joined
from gen_core.engine.stop import StopFlag
from gen_core.errors import UsageError
from gen_core.recipe import Recipe, load_recipe, resolve_recipe_path
from gen_core.registry import Registry
from gen_core.run.context import RunContext
from gen_core.run.folder import LOCK_RECIPE, RunFolder, check_lock, read_json, verify_step, write_lock
from gen_core.run.graph import StepSpec, build_graph
from gen_core.run.plan import describe
from gen_core.run.runner import follow, machine, raise_clear, walk
from gen_core.run.samples.forecast import forecast_samples, shape_of
from gen_core.run.samples.sampling import chunks
from gen_core.run.smoke import smoke_recipe
from gen_core.run.tracking.beside import tracked

RUNS = Path("runs")


@frozen
class RunRequest:
    """What `gen run` was asked for."""

    recipe: str | Path
    overrides: tuple[str, ...] = ()
    out: Path | None = None
    resume: str = "auto"  # auto, must, never
    fork: str | None = None
    from_step: str | None = None
    until_step: str | None = None
    only_step: str | None = None
    dry_run: bool = False
    smoke: bool = False
    seed: int | None = None
    device: str | None = None
    offline: bool = False


@frozen
class RunOutcome:
    """How it ended: the folder, a row a step, and the report when there is one."""

    folder: Path
    steps: list[dict[str, Any]] = Factory(list)
    report: Path | None = None
    metrics: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Path) else v for k, v in attrs.asdict(self).items()}


class Silent:
    """A progress display that shows nothing."""

    def update(self, stage: str, step: int, total: int, values: dict[str, float], speed: float | None) -> None:
        """Nothing to show."""

    def step_started(self, name: str, why: str) -> None:
        """Nothing to show."""

    def step_finished(self, name: str, seconds: float, note: str) -> None:
        """Nothing to show."""

    def say(self, message: str) -> None:
        """Nothing to show."""


def _recipe(request: RunRequest, registry: Registry) -> Recipe:
    overrides = list(request.overrides)
    if request.seed is not None:
        overrides.append(f"seed={request.seed}")
    if request.device is not None:
        overrides.append(f'device="{request.device}"')
    recipe = load_recipe(resolve_recipe_path(request.recipe), overrides, registry)
    if request.smoke:
        recipe = smoke_recipe(recipe)
    if request.fork:
        recipe = evolve(recipe, run=evolve(recipe.run, name=request.fork))
    return recipe


def _folder(request: RunRequest, recipe: Recipe) -> RunFolder:
    out = Path(request.out) if request.out else RUNS / recipe.run.name
    if request.fork and request.out:
        out = out.parent / request.fork
    return RunFolder(out)


def _working(
    recipe: Recipe,
    registry: Registry,
    folder: RunFolder,
    progress: Any,
    smoke: bool,
    work: Callable[[RunContext], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """`work` in a locked run folder, signals caught. Of several processes the first does it; the others follow."""
    with StopFlag() as stop, joined(stop) as ranks:
        device = device_of(recipe.run.device, ranks)
        ctx = RunContext(recipe, registry, folder, device, progress, stop, smoke, ranks=ranks)
        if not ranks.leads:
            ctx.progress = Silent()
            follow(ctx)
            return []
        try:
            with folder.locked(), tracked(ctx):
                rows = work(ctx)
        except OSError as error:
            raise_clear(error, folder.path)
        ranks.told()  # that there is no more to follow
        return rows


def _graph(ctx: RunContext) -> list[StepSpec]:
    return build_graph(ctx.recipe, ctx.dataset.fingerprint(), ctx.smoke)


def resolve(request: RunRequest, registry: Registry | None = None) -> tuple[Recipe, RunFolder]:
    """The recipe and the folder of a request; writes nothing.

    Raises: RecipeError; UsageError where the folder is not as `resume` says.
    """
    recipe = _recipe(request, registry or Registry.load())
    folder = _folder(request, recipe)
    if request.resume == "must" and not folder.exists:
        raise UsageError(f"--resume must: there is no run in {folder.path}")
    if request.resume == "never" and folder.exists:
        raise UsageError(f"--resume never: {folder.path} already holds a run; choose another --out or --fork NAME")
    return recipe, folder


def run(request: RunRequest, progress: Any = None) -> RunOutcome:
    """Do what a recipe says, from raw files to the report; go on where an earlier run stopped.

    Raises: RecipeError, UsageError (2), MissingError (3), DataError (4), RunError (5), Stopped (75).
    """
    registry = Registry.load()
    recipe, folder = resolve(request, registry)

    def work(ctx: RunContext) -> list[dict[str, Any]]:
        steps = _graph(ctx)
        if not folder.exists:
            write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
            atomic.write_json(folder.path / "machine.json", machine(ctx))
        rows = walk(ctx, steps, only=request.only_step, until=request.until_step, redo_from=request.from_step)
        write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
        return rows

    return _outcome(folder, _working(recipe, registry, folder, progress or Silent(), request.smoke, work))


def _outcome(folder: RunFolder, rows: list[dict[str, Any]]) -> RunOutcome:
    there = lambda name: folder.path / name if (folder.path / name).exists() else None
    return RunOutcome(folder.path, rows, there("report.html"), there("metrics.json"))


def plan(request: RunRequest) -> dict[str, Any]:
    """The dry run of a request; writes nothing."""
    registry = Registry.load()
    recipe = _recipe(request, registry)
    folder = _folder(request, recipe)
    ctx = RunContext(recipe, registry, folder, resolve_device("cpu"), Silent(), StopFlag(), request.smoke)
    return describe(ctx, build_graph(recipe, {}, request.smoke))


def open_run(folder: str | Path, overrides: tuple[str, ...] = ()) -> tuple[Recipe, Registry, RunFolder]:
    """The recipe a run folder was made with. Raises: UsageError when there is none."""
    run_folder = RunFolder(Path(folder))
    if not run_folder.exists:
        raise UsageError(f"{folder}: no run here (no {LOCK_RECIPE})")
    check_lock(run_folder.path / LOCK_RECIPE)
    registry = Registry.load()
    recipe = load_recipe(run_folder.path / LOCK_RECIPE, list(overrides), registry)
    return recipe, registry, run_folder


def is_smoke(folder: RunFolder) -> bool:
    """Whether a run was started as a smoke run."""
    started = read_json(folder.path / "steps" / "prepare" / "started.json") or {}
    return bool(started.get("settings", {}).get("smoke"))


def run_single(
    run_dir: str | Path, step: str, overrides: tuple[str, ...] = (), redo: bool = False, progress: Any = None
) -> RunOutcome:
    """One step of an existing run; what lies upstream must be finished. redo: make it again even if it is done.

    "train" stands for everything up to the last fit. Raises: UsageError naming the unfinished step.
    """
    recipe, registry, folder = open_run(run_dir, overrides)

    def work(ctx: RunContext) -> list[dict[str, Any]]:
        steps = _graph(ctx)
        if step == "train":
            fits = [s.name for s in steps if s.table]
            if not fits:
                raise UsageError(f"{run_dir}: this recipe has nothing to fit")
            rows = walk(ctx, steps, only=None, until=fits[-1], redo_from=None)
        else:
            rows = walk(ctx, steps, only=step, until=None, redo_from=step if redo else None)
        write_lock(folder.path / LOCK_RECIPE, recipe.to_toml())
        return rows

    return _outcome(folder, _working(recipe, registry, folder, progress or Silent(), is_smoke(folder), work))


def sample_more(
    run_dir: str | Path,
    n: int,
    *,
    shard: tuple[int, int] = (1, 1),
    steps: int | None = None,
    sampler: str | None = None,
    format: str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    fixed: dict[str, str] | None = None,
    conditions: str | None = None,
    guidance: float | None = None,
    spacing: str | None = None,
    dry_run: bool = False,
    progress: Any = None,
) -> dict[str, Any]:
    """Draw n samples of a finished run into `out`; shard (i, k) takes every k-th chunk. Existing files are kept.

    fixed, conditions, guidance, spacing: as in [sample]; `fixed` adds to the recipe's.
    dry_run: return what it would take.
    The same (run, sampler, steps, seed, conditions) gives the same bytes for every n and every shard count.
    """
    from gen_core.run.samples.background import Background
    from gen_core.run.samples.drawing import draw
    from gen_core.run.samples.drawn import Drawn
    from gen_core.run.samples.outputs import data_card, write_manifest, write_samples
    from gen_core.run.samples.provenance import sample_head
    from gen_core.run.samples.sampling import sample_seed
    from gen_core.run.samples.store import sample_id

    overrides = [f'sampler.use="{sampler}"'] if sampler else []
    overrides += [f'device="{device}"'] if device else []
    overrides += [f"sample.seed={seed}"] if seed is not None else []
    overrides += [f"sample.steps={steps}"] if steps else []
    overrides += [f'sample.format="{format}"'] if format else []
    overrides += [f"sample.guidance={guidance}"] if guidance is not None else []
    overrides += [f'sample.spacing="{spacing}"'] if spacing else []
    overrides += [f'sample.conditions="{conditions}"'] if conditions is not None else []
    recipe, registry, folder = open_run(run_dir, (*overrides, f"sample.n={n}"))
    recipe = evolve(recipe, sample=evolve(recipe.sample, fixed={**recipe.sample.fixed, **(fixed or {})}))
    options = recipe.sample
    under = "".join(f"-{name}-{Path(value).name}" for name, value in sorted((fixed or {}).items()))
    under += f"-{Path(conditions).stem}" if conditions is not None else ""
    under += f"-w{guidance:g}" if guidance is not None else ""
    under += f"-{spacing}" if spacing else ""
    name = f"samples-{recipe.table('sampler').use}-{options.steps or 'default'}{under}"
    target = Path(out) if out else folder.path / name
    part = "" if shard == (1, 1) else f"{shard[0]}of{shard[1]}"
    if dry_run:
        shape = shape_of(folder)
        if shape is None:
            raise UsageError(f"{run_dir}: step 'prepare' is not finished: the size of a sample is unknown")
        use = recipe.table("sampler").use
        return {"folder": str(target), **forecast_samples(folder, options, use, shape, kept=False, shard=shard)}
    with StopFlag() as stop, joined(stop) as ranks:
        ctx = RunContext(
            recipe,
            registry,
            folder,
            device_of(recipe.run.device, ranks),
            progress or Silent(),
            stop,
            is_smoke(folder),
            ranks=ranks,
        )
        component = registry.get("writer", options.format)
        writer = component.build(component.options_class()(), None)
        head, rows = sample_head(ctx), []
        info = {"seed": sample_seed(ctx), "sampler": head["sampler"], "steps": head["steps"]}

        def write(drawn: Drawn) -> None:
            new = write_samples(target, writer, drawn.chunk * options.batch, drawn.x, ctx.spec, info, drawn.under)
            rows.extend({**row, "id": sample_id(row["index"])} for row in new)

        with Background() as beside:
            for drawn in draw(ctx, chunks(n, options.batch, shard)[ranks.rank :: ranks.world]):
                beside.do(write, drawn)
        rows = [row for each in ranks.gathered(rows) for row in each]
        if ranks.leads:
            write_manifest(target, rows, head, data_card(recipe, ctx.spec, head, len(rows)), part)
    return {"folder": str(target), "samples": len(rows), "shard": part or "1of1"}


def list_runs(root: str | Path = RUNS) -> list[dict[str, Any]]:
    """A row for every run under `root`: name, recipe, steps done, seconds, folder."""
    rows = []
    for lock in sorted(Path(root).glob(f"*/{LOCK_RECIPE}")):
        folder = lock.parent
        done = sorted(p.parent.name for p in folder.glob("steps/*/done.json"))
        started = sorted(p.parent.name for p in folder.glob("steps/*/started.json"))
        cost = read_json(folder / "cost.json") or {}
        rows.append(
            {
                "run": folder.name,
                "done": done,
                "unfinished": [s for s in started if s not in done],
                "seconds": cost.get("total_seconds"),
                "report": str(folder / "report.html") if (folder / "report.html").exists() else None,
                "folder": str(folder),
            }
        )
    return rows


def verify_run(run_dir: str | Path) -> list[str]:
    """Problems of a run's finished steps and samples, one line each; empty when all is whole."""
    folder = Path(run_dir)
    if not (folder / LOCK_RECIPE).exists():
        raise UsageError(f"{run_dir}: no run here (no {LOCK_RECIPE})")
    problems = []
    for done in sorted(folder.glob("steps/*/done.json")):
        problems += verify_step(done.parent)
    from gen_core.run.samples.outputs import verify_manifest

    return problems + verify_manifest(folder / "samples")
