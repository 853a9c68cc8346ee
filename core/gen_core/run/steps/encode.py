"""The step `encode`: every volume becomes a latent, once, with its conditions beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gen_core import atomic
from gen_core.batch import collate
from gen_core.codec import Codec
from gen_core.condition import Conditions
from gen_core.engine.checkpoint import load_weights, write_weights
from gen_core.engine.precision import autocast
from gen_core.run.conditioning import Conditioner, noise_seeds, scalar_ranges
from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec, approximations
from gen_core.run.latents import as_stored
from gen_core.run.promises import require_promised
from gen_core.run.steps.prepare import SPLITS
from gen_core.run.steps.weights_header import weights_header
from gen_core.tensor_file import write_tensors

ADVICE = "fit it longer or with a lower lr"


@torch.no_grad()
def encode(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Calibrate the codec on the training set, then encode every volume once (training: `views` times).

    Writes latents-<split>.safetensors: z (views, N, c, d, h, w) float32 and, where the recipe declares conditions,
    `value.NAME` and `present.NAME` (views, N, ...); and the calibrated codec's weights.
    """
    ranks, shapes = ctx.ranks, {}
    codec = ctx.fitted_codec()
    ctx._parts.pop("codec", None)
    conditioner, calibration = None, {}
    if ranks.leads:
        conditioner, calibration = _calibrated(ctx, codec, folder)
        ranks.told(step.name)
    else:
        load_weights(codec, folder)
    for name in SPLITS:
        views = ctx.recipe.encode.views if name == "train" else 1
        z, told = _encoded(ctx, step.name, codec, conditioner, name, views)
        ranks.add(z.view(torch.int32))  # of each value one process has the bits, and the others zeros
        if ranks.leads:
            write_tensors(folder / f"latents-{name}.safetensors", {"z": z, **as_stored(told, views)})
        shapes[name] = list(z.shape)
    if ranks.leads:
        atomic.write_json(folder / "calibration.json", calibration)
    return {"latents": shapes, **approximations(ctx.recipe)}


def _calibrated(ctx: RunContext, codec: Codec, folder: Path) -> tuple[Conditioner | None, dict[str, Any]]:
    """Calibrate `codec` and write its weights; who tells conditions, where there are any, and what was calibrated."""
    calibration = codec.calibrate(ctx.batches(ctx.split("train"), ctx.recipe.encode.batch))
    write_weights(codec, folder, {"calibration": calibration}, weights_header(ctx, "codec"))
    if not ctx.recipe.conditions:
        return None, calibration
    ranges = scalar_ranges(ctx.recipe.conditions, ctx.split("train"))
    conditioner = Conditioner(ctx.recipe.conditions, ctx.spec, codec.latent, ranges)
    atomic.write_json(folder / "conditions.json", {"ranges": ranges})
    return conditioner, calibration


def _encoded(
    ctx: RunContext, step: str, codec: Codec, conditioner: Conditioner | None, name: str, views: int
) -> tuple[Tensor, list[Conditions]]:
    """z (views, N, c, d, h, w) of a split, zeros where another process encodes; the conditions of its batches."""
    options, ranks, split = ctx.recipe.encode, ctx.ranks, ctx.split(name)
    told: list[Conditions] = []
    z = torch.zeros(views, len(split), *codec.latent.shape(ctx.spec.size))
    # conditions are told by the first process, which reads all volumes for them
    part = (0, 1) if conditioner else (ranks.rank, ranks.world)
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
            ctx.progress.update(step, k + 1, -(-len(split) // options.batch), {}, None)
    return z, told


class _View:
    """View v of every volume of a split, as a plain sequence."""

    def __init__(self, split: Any, v: int):
        self.split, self.v = split, v

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> Any:
        return self.split.view(i, self.v)
