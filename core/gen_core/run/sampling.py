"""From noise to volumes in whole chunks: the same bytes for any shard, any resume and any number asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gen_core.codec import Codec
from gen_core.condition import Conditions
from gen_core.denoising import clamped, guided, thresholded
from gen_core.engine.precision import autocast
from gen_core.engine.seeds import sample_noise, stable_seed
from gen_core.errors import RunError, UsageError
from gen_core.options import SampleOptions
from gen_core.prior import Denoise, DiffusionPrior, DirectPrior, Prior
from gen_core.run.context import RunContext
from gen_core.sampler import Noise, Sampler

Watch = Callable[[float, Tensor, Tensor], None]


def sample_seed(ctx: RunContext) -> int:
    """The seed that every sample's own seed is derived from."""
    return stable_seed(ctx.seed, "sample", ctx.recipe.sample.seed)


def chunks(n: int, batch: int, shard: tuple[int, int] = (1, 1)) -> list[int]:
    """The chunk numbers of shard i of k (1-based): chunk c holds samples c*batch .. c*batch+batch-1 below n."""
    i, k = shard
    if not 1 <= i <= k:
        raise UsageError(f"--shard {i}/{k}: the first number must be 1..{k}")
    return [c for c in range(-(-n // batch)) if c % k == i - 1]


def indices_of(chunk: int, batch: int) -> list[int]:
    """The samples of a whole chunk."""
    return list(range(chunk * batch, (chunk + 1) * batch))


def draw_latents(
    prior: Prior,
    sampler: Sampler,
    options: SampleOptions,
    seed: int,
    indices: list[int],
    device: torch.device,
    cond: Conditions | None = None,
) -> Tensor:
    """z_0 (len(indices), c, d, h, w) of the samples `indices`, each from its own seed and under its own conditions."""
    noise = sample_noise(seed, indices, noise_shape(prior), device)
    return latents_from(noise, prior, sampler, options, device, cond=cond)


def noise_shape(prior: Prior) -> tuple[int, ...]:
    """The shape of one draw of noise of one sample. Raises: UsageError when nothing can be drawn from the prior."""
    if isinstance(prior, DirectPrior):
        return tuple(prior.noise_shape(1)[1:])
    if isinstance(prior, DiffusionPrior):
        return tuple(prior.shape)
    raise UsageError(f"prior {type(prior).__name__} offers neither `denoise` nor `draw`")


def latents_from(
    noise: Noise,
    prior: Prior,
    sampler: Sampler,
    options: SampleOptions,
    device: torch.device,
    watch: Watch | None = None,
    cond: Conditions | None = None,
) -> Tensor:
    """z_0 from draws of noise (B, ...): the start is noise(0), the sampler's own draws follow it.

    cond: what the prior is told, guided by [sample] guidance.
    watch: called with (t, z_t, z_0) whenever a diffusion prior has been asked.
    """
    if isinstance(prior, DirectPrior):
        with autocast(options.precision, device):
            return sampler.draw(prior, noise, cond).float()
    assert isinstance(prior, DiffusionPrior)  # `noise_shape` refuses what is neither
    steps = options.steps or sampler.steps
    ts = prior.path.grid(steps)
    sigma = prior.path.sigma(ts[:1]).to(torch.float32)
    z = noise(0) * sigma.item()

    denoise = asked(prior, options, device, cond, watch)
    return sampler.sample(denoise, prior.path, z, ts, lambda k: noise(k + 1))


def asked(
    prior: DiffusionPrior,
    options: SampleOptions,
    device: torch.device,
    cond: Conditions | None = None,
    watch: Watch | None = None,
) -> Denoise:
    """The prior as a sampler asks it: told `cond`, guided, in the precision and within the bounds of [sample]."""
    ask = guided(prior.denoise, cond, options.guidance, options.guidance_interval) if cond else prior.denoise

    def denoise(z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(options.precision, device):
            z_0, eps = ask(z_t, t)
        if watch is not None:
            watch(float(t.ravel()[0]), z_t, z_0.float())
        return z_0.float(), eps.float()

    if options.threshold:
        return thresholded(denoise, prior.path, options.threshold, options.clamp or 1.0)
    return clamped(denoise, prior.path, options.clamp)


@torch.no_grad()
def draw_chunk(
    chunk: int,
    *,
    prior: Prior,
    sampler: Sampler,
    codec: Codec,
    options: SampleOptions,
    seed: int,
    device: torch.device,
    cond: Conditions | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Chunk number `chunk`, whole: (z, x, seconds). The caller cuts what lies beyond n.

    cond: the conditions of all its samples.

    The chunk is never made smaller: a sample's bytes must not depend on how many were asked for.
    """
    start = time.perf_counter()
    z = draw_latents(prior, sampler, options, seed, indices_of(chunk, options.batch), device, cond)
    if not torch.isfinite(z).all():
        raise RunError(f"sampling: chunk {chunk} holds NaN or infinite latents; set [sample] clamp or more steps")
    middle = time.perf_counter()
    with autocast(options.precision, device):
        x = codec.decode(z)
    x = x.float().cpu()
    return z.cpu(), x, {"sampling": middle - start, "decoding": time.perf_counter() - middle}
