"""Where samples come from: the words that all samples of a run share."""

from __future__ import annotations

from typing import Any

from gen_core.run.context import RunContext
from gen_core.run.folder import sha256_file
from gen_core.run.graph import approximations, is_trainable


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
