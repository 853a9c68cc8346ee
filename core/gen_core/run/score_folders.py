"""Scores of anyone's samples: a folder of real volumes against a folder of synthetic ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from gen_core import atomic
from gen_core.batch import Batch, collate
from gen_core.dataset import DatasetContext, Split
from gen_core.engine.device import resolve_device
from gen_core.engine.stop import StopFlag
from gen_core.errors import DataError
from gen_core.options import SplitOptions
from gen_core.recipe import load_recipe, resolve_recipe_path
from gen_core.registry import Registry
from gen_core.run.context import RunContext
from gen_core.run.folder import RunFolder
from gen_core.run.graph import build_graph
from gen_core.run.progress import Silent
from gen_core.run.runner import walk
from gen_core.run.scoring.evaluation import Sources, evaluate_sources
from gen_core.volume import VolumeSpec

RECIPE = "evaluate_folders"


def on_scale_of(spec: VolumeSpec, split: Split, size: int, device: Any) -> Iterator[Batch]:
    """Batches of a split, moved from its own scale to that of `spec`: both folders on one scale."""
    for start in range(0, len(split), size):
        samples = [split[i] for i in range(start, min(start + size, len(split)))]
        for sample in samples:
            sample.x = spec.scale.to_unit(sample.scale.to_physical(sample.x)).astype(np.float32)
        yield collate(samples).to(device)


def prepare_and_fit(ctx: RunContext) -> None:
    """Prepare the real volumes and fit the feature networks and segmenters that the metrics want (or take them `from`
    a run). What is fitted here is not kept: to score several folders, fit once in a run."""
    steps = build_graph(ctx.recipe, ctx.dataset.fingerprint())
    walk(ctx, [s for s in steps if s.name == "prepare" or s.table], only=None, until=None, redo_from=None)


def evaluate_folders(
    real: str | Path,
    synthetic: str | Path,
    *,
    out: str | Path | None = None,
    size: tuple[int, int, int] | None = None,
    recipe: str | Path = RECIPE,
    overrides: tuple[str, ...] = (),
    device: str = "auto",
    progress: Any = None,
) -> dict[str, Any]:
    """Score `synthetic` against `real` by the metrics of a recipe without codec and prior.

    Real volumes are split by subject into train and validation, so that every score has its floor. size: (D, H, W)
    to bring both to; default: that of the first real volume. Returns and writes (`out`) {"results": ...}.
    """
    registry = Registry.load()
    settings = [f'dataset.root="{real}"', *overrides]
    if size:
        settings.append(f"volume.size={list(size)}")
    resolved = load_recipe(resolve_recipe_path(recipe), settings, registry)
    with tempfile.TemporaryDirectory(prefix="gen-evaluate-") as scratch, StopFlag() as stop:
        folder = RunFolder(Path(scratch) / "run")
        ctx = RunContext(resolved, registry, folder, resolve_device(device), progress or Silent(), stop)
        folder.path.mkdir()
        prepare_and_fit(ctx)
        table = resolved.table("dataset")
        context = DatasetContext(
            volume=attrs.evolve(resolved.volume, size=ctx.spec.size, wavelengths_nm=ctx.spec.wavelength_nm),
            split=SplitOptions(val=0.0),  # all of it in "train": nothing is fitted to it
            seed=resolved.run.seed,
            cache=ctx.cache,
        )
        made = table.component.build(attrs.evolve(table.options, root=str(synthetic)), context)
        if made.spec.shape != ctx.spec.shape:
            raise DataError(f"{synthetic}: volumes are {made.spec.shape}, those of {real} {ctx.spec.shape}")
        samples, batch = made.split("train"), resolved.evaluate.batch
        sources: Sources = {
            name: (len(ctx.split(name)), lambda name=name: ctx.batches(ctx.split(name), batch))
            for name in ("train", "val")
        }
        sources["synthetic"] = (len(samples), lambda: on_scale_of(ctx.spec, samples, batch, ctx.device))
        results, timed = evaluate_sources(ctx, sources)
    found = {"real": str(real), "synthetic": str(synthetic), "results": results, "timed": timed}
    if out:
        atomic.write_json(Path(out), found)
    return found
