"""The steps `fit.TABLE`: a network of the recipe learns from volumes, latents or samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from gen_core.batch import Batch
from gen_core.cropped import CroppedSplit
from gen_core.dataset import Split
from gen_core.engine.checkpoint import init_weights
from gen_core.engine.fit import fit
from gen_core.engine.ranks import Ranks
from gen_core.engine.seeds import stable_seed
from gen_core.engine.source import SplitSource, TensorSource, TrainingSource
from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec
from gen_core.run.latents import stored_latents
from gen_core.run.samples.store import Joined, accepted_samples
from gen_core.run.scoring.selection import SampleScores, selects_by_samples
from gen_core.run.steps.prepare import SPLITS
from gen_core.run.steps.weights_header import weights_header
from gen_core.trainable import Trainable

Validation = Callable[[], Iterable[Batch]]


def fit_table(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Fit a trainable table: the codec, the prior, a feature network or a segmenter."""
    name = step.table
    table, options = ctx.recipe.table(name), ctx.options_of(name)
    module = _begun(ctx, name, table)
    for note in module.notes():
        ctx.progress.say(f"[{name}] {note}")
    ranks = _sharing(ctx, step, module)
    scores = SampleScores(ctx, module, options) if selects_by_samples(options) and ranks.leads else None
    source, validation = _data(ctx, name, table, options, module)
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
        header=weights_header(ctx, name),
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


def _begun(ctx: RunContext, name: str, table: Any) -> Any:
    """The module before its first update: random weights, or those of the run that `init` names."""
    # initialized from (seed, table): no other step's randomness reaches the weights
    torch.manual_seed(stable_seed(ctx.seed, "init", name))
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
    return module


def _sharing(ctx: RunContext, step: StepSpec, module: Trainable) -> Ranks:
    """The processes that fit `module`: all, where it bears that, called to this step by the first."""
    if not module.parallel:
        if ctx.ranks.world > 1:
            ctx.progress.say(f"[{step.table}] is fitted by one of the {ctx.ranks.world} processes: it bears no more")
        return Ranks()
    if ctx.ranks.leads:
        ctx.ranks.told(step.name)
    return ctx.ranks


def _data(ctx: RunContext, name: str, table: Any, options: Any, module: Any) -> tuple[TrainingSource, Validation]:
    """What a table is fitted on and validated by: a prior on stored latents, all else on volumes or crops of them."""
    size = options.batch // options.accumulate
    if table.kind == "prior":
        latents = ctx.folder.step("encode")
        train, held_out = (TensorSource(*stored_latents(latents, split), device=ctx.device) for split in SPLITS)
        return train, lambda: held_out.batches(size, options.validate_volumes)
    stride = module.latent.stride if table.kind == "codec" else (1, 1, 1)
    crops = lambda split: CroppedSplit(split, options.crop, ctx.seed, name, stride) if options.crop else split
    source = SplitSource(crops(_training_split(ctx, table)), workers=options.workers)
    held_out_crops = crops(ctx.split("val"))
    return source, lambda: ctx.batches(held_out_crops, size, options.validate_volumes)


def _training_split(ctx: RunContext, table: Any) -> Split:
    """What a table is fitted on: the training volumes, the accepted samples, or both."""
    which = getattr(table.options, "train_on", "real")
    if which == "real":
        return ctx.split("train")
    samples = accepted_samples(ctx.folder, ctx.recipe)
    return samples if which == "synthetic" else Joined(ctx.split("train"), samples)
