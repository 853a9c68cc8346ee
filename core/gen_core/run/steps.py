"""The work of each step. A step writes into its folder and returns what `done.json` should record.

Of several processes the first does all steps; it calls the others to those they can share, by the step's name. They run
the same function then, and leave the writing to the first, but for the samples that they draw.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import torch

from gen_core import atomic
from gen_core.batch import Batch, collate
from gen_core.cropped import CroppedSplit
from gen_core.dataset import Split
from gen_core.engine.checkpoint import init_weights, load_weights, write_weights
from gen_core.engine.fit import fit
from gen_core.engine.precision import autocast
from gen_core.engine.ranks import Ranks
from gen_core.engine.seeds import stable_seed
from gen_core.engine.source import SplitSource, TensorSource, TrainingSource
from gen_core.errors import DataError, RunError
from gen_core.run.conditioning import Conditioner, noise_seeds, scalar_ranges
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json, sha256_file
from gen_core.run.graph import StepSpec, approximations, is_trainable
from gen_core.run.latents import as_stored, stored_latents
from gen_core.run.promises import require_promised
from gen_core.run.samples.background import Background
from gen_core.run.samples.drawing import draw
from gen_core.run.samples.outputs import ASIDE, data_card, note_neighbours, set_aside, write_manifest, write_samples
from gen_core.run.samples.sampling import chunks, sample_seed
from gen_core.run.samples.store import (
    REJECTED,
    Joined,
    accepted_samples,
    chunk_path,
    read_chunk,
    sample_id,
    stored_chunks,
    write_chunk,
)
from gen_core.run.scoring.evaluation import evaluate_judges, evaluate_sources, run_sources
from gen_core.run.scoring.parts import parts_of
from gen_core.run.scoring.selection import SampleScores, selects_by_samples
from gen_core.run.view.finished import FinishedRun
from gen_core.tensor_file import problem_of, write_tensors
from gen_core.trainable import Trainable

SPLITS = ("train", "val")
ADVICE = "fit it longer or with a lower lr"


def prepare(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Fill the data set's cache and record its spec, scale and splits."""
    record = ctx.dataset.prepare(_Attentive(ctx))
    for name in SPLITS:
        split = ctx.split(name)
        if len(split) == 0:
            raise DataError(f"[split] leaves no volume for '{name}'; change [split] or add subjects")
    spec = ctx.spec
    record = {
        **record,
        "spec": {**attrs.asdict(spec, filter=lambda a, _: a.name != "scale"), "scale": spec.scale.to_json()},
        "volumes": {name: len(ctx.split(name)) for name in SPLITS},
    }
    atomic.write_json(folder / "prepared.json", record)
    for note in record.get("notes", []):
        ctx.progress.say(note)
    return {"volumes": record["volumes"]}


class _Attentive:
    """The run's progress display, which also stops a long preparation when a signal asked for it."""

    def __init__(self, ctx: RunContext):
        self._ctx = ctx

    def update(self, *args: Any) -> None:
        self._ctx.check_stop()
        self._ctx.progress.update(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx.progress, name)


def _validation(ctx: RunContext, options: Any, split: Split) -> Callable[[], Iterable[Batch]]:
    return lambda: ctx.batches(split, options.batch // options.accumulate, options.validate_volumes)


def _training_split(ctx: RunContext, table: Any) -> Split:
    """What a table is fitted on: the training volumes, the accepted samples, or both."""
    which = getattr(table.options, "train_on", "real")
    if which == "real":
        return ctx.split("train")
    samples = accepted_samples(ctx.folder, ctx.recipe)
    return samples if which == "synthetic" else Joined(ctx.split("train"), samples)


def fit_table(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Fit a trainable table: the codec, the prior, a feature network or a segmenter."""
    name = step.table
    table, options = ctx.recipe.table(name), ctx.options_of(name)
    torch.manual_seed(_build_seed(ctx, name))
    module = {
        "codec": ctx.new_codec,
        "prior": ctx.new_prior,
        "features": lambda: ctx.new_features(name),
        "segmenter": lambda: ctx.new_segmenter(name),
    }[table.kind]()
    if table.init:
        origin = Path(table.init) / "steps" / f"fit.{name}"
        for line in init_weights(module, origin):
            ctx.progress.say(f"[{name}] init from {table.init}: {line}")
    for note in module.notes():
        ctx.progress.say(f"[{name}] {note}")
    ranks = _sharing(ctx, step, module)
    source: TrainingSource
    scores = SampleScores(ctx, module, options) if selects_by_samples(options) and ranks.leads else None
    if table.kind == "prior":
        latents = ctx.folder.step("encode")
        source, held_out = (TensorSource(*stored_latents(latents, name), device=ctx.device) for name in SPLITS)
        validation = lambda: held_out.batches(options.batch // options.accumulate, options.validate_volumes)
    else:
        stride = module.latent.stride if table.kind == "codec" else (1, 1, 1)
        crops = lambda split: CroppedSplit(split, options.crop, ctx.seed, name, stride) if options.crop else split
        source = SplitSource(crops(_training_split(ctx, table)), workers=options.workers)
        validation = _validation(ctx, options, crops(ctx.split("val")))
    summary = fit(
        module,
        source,
        options,
        folder=folder,
        stage=step.name,
        seed=ctx.seed,
        device=ctx.device,
        events=ctx.events if ranks.leads else None,
        validation=validation,
        scores=scores,
        stop=ctx.stop,
        progress=ctx.progress,
        header=_header(ctx, name),
        ranks=ranks,
    )
    for note in summary.notes:
        ctx.progress.say(f"{step.name}: {note}")
    parameters = sum(p.numel() for p in module.parameters())
    notes = [f"[{name}] {note}" for note in module.notes()]
    record = {"steps": summary.steps, "parameters": parameters, "batch": options.batch, "notes": notes}
    if summary.best is not None:
        record["selected"] = {"by": options.select, "value": summary.best, "step": summary.best_step}
    return record


def _sharing(ctx: RunContext, step: StepSpec, module: Trainable) -> Ranks:
    """The processes that fit `module`: all, where it bears that, called to this step by the first."""
    if not module.parallel:
        if ctx.ranks.world > 1:
            ctx.progress.say(f"[{step.table}] is fitted by one of the {ctx.ranks.world} processes: it bears no more")
        return Ranks()
    if ctx.ranks.leads:
        ctx.ranks.told(step.name)
    return ctx.ranks


def _build_seed(ctx: RunContext, name: str) -> int:
    """Weights are initialized from (seed, table): no other step's randomness reaches them."""
    return stable_seed(ctx.seed, "init", name)


def _header(ctx: RunContext, name: str) -> dict[str, Any]:
    table = ctx.recipe.table(name)
    return {
        "recipe": ctx.recipe.run.name,
        "table": name,
        "use": table.use,
        "version": str(table.component.version),
        "plugin": f"{table.component.distribution} {table.component.distribution_version}",
    }


@torch.no_grad()
def encode(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Calibrate the codec on the training set, then encode every volume once (training: `views` times).

    Writes latents-<split>.safetensors: z (views, N, c, d, h, w) float32 and, where the recipe declares conditions,
    `value.NAME` and `present.NAME` (views, N, ...); and the calibrated codec's weights.
    """
    options, ranks = ctx.recipe.encode, ctx.ranks
    codec = ctx.fitted_codec()
    ctx._parts.pop("codec", None)
    shapes, conditioner, calibration = {}, None, {}
    if ranks.leads:
        calibration = codec.calibrate(ctx.batches(ctx.split("train"), options.batch))
        write_weights(codec, folder, {"calibration": calibration}, _header(ctx, "codec"))
        if ctx.recipe.conditions:
            ranges = scalar_ranges(ctx.recipe.conditions, ctx.split("train"))
            conditioner = Conditioner(ctx.recipe.conditions, ctx.spec, codec.latent, ranges)
            atomic.write_json(folder / "conditions.json", {"ranges": ranges})
        ranks.told(step.name)
    else:
        load_weights(codec, folder)
    # conditions are told by the first process, which reads all volumes for them
    part = (0, 1) if conditioner else (ranks.rank, ranks.world)
    for name in SPLITS:
        split, told = ctx.split(name), []
        views = options.views if name == "train" else 1
        z = torch.zeros(views, len(split), *codec.latent.shape(ctx.spec.size))
        for v in range(views):
            view = split if views == 1 else _View(split, v)
            for at, samples in enumerate(ctx.groups(view, options.batch, part=part)):
                k = part[0] + at * part[1]
                rows = range(k * options.batch, k * options.batch + len(samples))
                if conditioner:
                    told.append(conditioner.of(samples, noise_seeds(ctx.seed, name, v, rows)))
                if k % ranks.world != ranks.rank:
                    continue
                with autocast(options.precision, ctx.device):
                    out = codec.encode(collate(samples).x.to(ctx.device))
                shape = (len(samples), *z.shape[2:])
                require_promised(out, shape, f"[codec] encodes {', '.join(s.id for s in samples[:4])} to", ADVICE)
                z[v, rows.start : rows.stop] = out.float().cpu()
                ctx.progress.update(step.name, k + 1, -(-len(split) // options.batch), {}, None)
        ranks.add(z.view(torch.int32))  # of each value one process has the bits, and the others zeros
        if ranks.leads:
            write_tensors(folder / f"latents-{name}.safetensors", {"z": z, **as_stored(told, views)})
        shapes[name] = list(z.shape)
    if ranks.leads:
        atomic.write_json(folder / "calibration.json", calibration)
    return {"latents": shapes, **approximations(ctx.recipe)}


class _View:
    """View v of every volume of a split, as a plain sequence."""

    def __init__(self, split: Any, v: int):
        self.split, self.v = split, v

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> Any:
        return self.split.view(i, self.v)


def sample(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Draw [sample] n volumes chunk by chunk, keep them, and write them in the format asked for."""
    options, ranks = ctx.recipe.sample, ctx.ranks
    timing = {"sampling_seconds": 0.0, "decode_seconds": 0.0, "volumes": 0}
    to_draw: list[int] = []
    if ranks.leads:
        work = chunks(options.n, options.batch)
        to_draw = [chunk for chunk in work if not _drawn(ctx, chunk_path(folder, chunk))]
        ranks.told(step.name)
    to_draw = ranks.told(to_draw)
    with Background() as beside:
        for drawn in draw(ctx, to_draw[ranks.rank :: ranks.world]):
            beside.do(write_chunk, chunk_path(folder, drawn.chunk), drawn)
            timing["sampling_seconds"] += drawn.seconds["sampling"]
            timing["decode_seconds"] += drawn.seconds["decoding"]
            timing["volumes"] += options.batch
    heard = ranks.gathered(timing)  # and so all chunks are written
    if not ranks.leads:
        return {}
    timing = {key: sum(each[key] for each in heard) for key in timing}
    head = sample_head(ctx)
    publish(ctx, folder, ctx.folder.path / "samples", head, options.format)
    return {"volumes": options.n, "head": head, "cost": timing}


def _drawn(ctx: RunContext, path: Path) -> bool:
    """Whether a chunk was written earlier and is whole; a damaged one is drawn again."""
    if not path.exists():
        return False
    problem = problem_of(path)
    if problem:
        ctx.progress.say(f"sample: drawn again: {problem}")
    return not problem


def sample_head(ctx: RunContext) -> dict[str, Any]:
    """The provenance that all samples of a run share."""
    options = ctx.recipe.sample
    return {
        "recipe": ctx.recipe.run.name,
        "seed": ctx.seed,
        "sample_seed": options.seed,
        "sampler": ctx.recipe.table("sampler").use,
        "steps": options.steps or ctx.sampler().steps,
        "spacing": options.spacing,
        "prior": _weights_hash(ctx, "fit.prior") if is_trainable(ctx.recipe.table("prior")) else "",
        "codec": _weights_hash(ctx, "encode"),
        "shape": list(ctx.spec.shape),
        "units": ctx.spec.units,
        "wavelength_nm": list(ctx.spec.wavelength_nm or []),
        **approximations(ctx.recipe),
    }


def _weights_hash(ctx: RunContext, step: str) -> str:
    return sha256_file(ctx.folder.step(step) / "weights.safetensors")


def publish(ctx: RunContext, folder: Path, target: Path, head: dict[str, Any], format: str) -> None:
    """Write kept chunks as sample files with manifest and card."""
    component = ctx.registry.get("writer", format)
    writer = component.build(component.options_class()(), None)
    rows = []
    shutil.rmtree(target / ASIDE, ignore_errors=True)  # rejected in an earlier state of this run
    for chunk, path in stored_chunks(folder):
        ctx.check_stop()
        first = chunk * ctx.recipe.sample.batch
        x, under = read_chunk(path)
        info = {"seed": sample_seed(ctx), "sampler": head["sampler"], "steps": head["steps"]}
        rows += write_samples(target, writer, first, x, ctx.spec, info, under)
    for row in rows:
        row["id"] = sample_id(row["index"])
    write_manifest(target, rows, head, data_card(ctx.recipe, ctx.spec, head, len(rows)))


def judge_samples(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Set samples aside that a metric of [evaluate.reject] finds unfit: out of the scores and out of `samples/`.

    Their files move to `samples/rejected/`, where `rejected.json` says why.
    """
    reasons = evaluate_judges(ctx, run_sources(ctx), ctx.recipe.evaluate.reject.by)
    drawn = ctx.record("sample")["volumes"]
    record = {"rejected": reasons, "of": drawn, "by": list(ctx.recipe.evaluate.reject.by)}
    if len(reasons) == drawn:
        first = next(iter(reasons.values()))[0]
        raise RunError(f"[evaluate.reject] would set aside all {drawn} samples (first: {first}): nothing to score")
    atomic.write_json(folder / REJECTED, record)
    set_aside(ctx.folder.path / "samples", reasons)
    ctx.progress.say(f"{len(reasons)} of {drawn} samples set aside by {', '.join(record['by'])}")
    return {"rejected": len(reasons), "volumes": drawn - len(reasons)}


def evaluate(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Stream every source through every metric; scores go to metrics.json, clock-dependent ones to cost.json."""
    if not ctx.recipe.evaluate.reject.by:
        set_aside(ctx.folder.path / "samples", {})  # what an earlier recipe rejected comes back
    parts = parts_of(ctx)
    results, timed = evaluate_sources(ctx, run_sources(ctx, rejected=bool(parts.aside)), parts)
    atomic.write_json(folder / "metrics.json", {"recipe": ctx.recipe.run.name, "results": results})
    atomic.write_json(folder / "timed.json", timed)
    atomic.write_json(ctx.folder.path / "metrics.json", read_json(folder / "metrics.json"))
    for result in results.values():
        rows = result["extra"].get("neighbours")
        if rows:  # a memorization metric: its distances belong beside each sample
            nearest = {row["id"]: row["distance"][0] for row in rows if row["distance"]}
            note_neighbours(ctx.folder.path / "samples", nearest, result["protocol"])
    return {"metrics": sorted(results), "published": ["metrics.json"]}


def report(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Write report.html."""
    table = ctx.recipe.tables_of("report")[0]
    page = table.component.build(table.options, None)
    files = page.write(FinishedRun(ctx), ctx.folder.path / "report.html")
    pages = [str(f.relative_to(ctx.folder.path)) for f in files]
    return {"pages": pages, "published": pages}


WORK: dict[str, Callable[[RunContext, StepSpec, Path], dict[str, Any]]] = {
    "prepare": prepare,
    "encode": encode,
    "sample": sample,
    "reject": judge_samples,
    "evaluate": evaluate,
    "report": report,
}


def work_of(step: StepSpec) -> Callable[[RunContext, StepSpec, Path], dict[str, Any]]:
    """The function that does a step."""
    return fit_table if step.table else WORK[step.name]
