"""Strips of volumes that show how a prior works: between two samples, along the way of one, back from partial noise.

Each strip is a pure function of the run: its noise is that of the samples with the same numbers.
"""

from __future__ import annotations

import math

import torch
from attrs import evolve
from torch import Tensor

from gen_core.condition import Conditions
from gen_core.engine.precision import autocast
from gen_core.engine.seeds import sample_noise
from gen_core.options import SampleOptions
from gen_core.prior import DiffusionPrior
from gen_core.run.context import RunContext
from gen_core.run.samples.conditions import SampleConditions
from gen_core.run.samples.sampling import latents_from, noise_shape, sample_seed
from gen_core.sampler import Sampler


def slerp(a: Tensor, b: Tensor, u: float) -> Tensor:
    """The point a share u along the great circle from a to b; its norm stays that of the noise.

    a, b: one draw of noise each, of one shape. Source: Shoemake 1985, "Animating rotation with quaternion curves".
    """
    cosine = (a * b).sum().double() / (a.norm().double() * b.norm().double()).clamp_min(1e-12)
    angle = math.acos(max(-1.0, min(1.0, float(cosine))))
    if math.sin(angle) < 1e-6:  # one direction: the circle is a line
        return (1 - u) * a + u * b
    return math.sin((1 - u) * angle) / math.sin(angle) * a + math.sin(u * angle) / math.sin(angle) * b


@torch.no_grad()
def interpolation(ctx: RunContext, frames: int, most_steps: int) -> list[tuple[float, Tensor]]:
    """(share, x (C, D, H, W)) from sample 0 to sample 1, every draw of noise on the great circle between theirs.

    most_steps: of the sampler; the ends are the samples themselves when they took no more. Every frame is drawn
    under the conditions of sample 0.
    """
    prior = ctx.prior()
    noise = sample_noise(sample_seed(ctx), [0, 1], noise_shape(prior), ctx.device)
    shares = [k / (frames - 1) for k in range(frames)]

    def between(k: int) -> Tensor:
        a, b = noise(k)
        return torch.stack([slerp(a, b, u) for u in shares])

    sampler, options = cheap(ctx, most_steps)
    z = latents_from(between, prior, sampler, options, ctx.device, cond=_told(ctx, [0] * frames))
    return list(zip(shares, _decoded(ctx, z, options)))


@torch.no_grad()
def denoising(ctx: RunContext, frames: int, most_steps: int) -> list[tuple[float, Tensor, Tensor]]:
    """(t, x of z_t, x of the estimate of z_0), each (C, D, H, W), at times spread over the way of sample 0.

    The last has t = 0: the sample itself, twice. Empty for a prior that draws in one step.
    """
    prior = ctx.prior()
    if not isinstance(prior, DiffusionPrior):
        return []
    seen: list[tuple[float, Tensor, Tensor]] = []
    noise = sample_noise(sample_seed(ctx), [0], noise_shape(prior), ctx.device)
    sampler, options = cheap(ctx, most_steps)
    watch = lambda *state: seen.append(state)
    z = latents_from(noise, prior, sampler, options, ctx.device, watch, _told(ctx, [0]))
    n = min(frames - 1, len(seen))
    kept = [seen[round(k * len(seen) / n)] for k in range(n)] + [(0.0, z, z)]
    x_t, x_0 = (_decoded(ctx, torch.cat([state[part] for state in kept]), options) for part in (1, 2))
    return [(t, a, b) for (t, _, _), a, b in zip(kept, x_t, x_0)]


def _told(ctx: RunContext, indices: list[int]) -> Conditions | None:
    """The conditions of these samples, where the recipe declares any."""
    if not ctx.recipe.conditions:
        return None
    return SampleConditions(ctx, sample_seed(ctx)).of(indices)[0].to(ctx.device)


def cheap(ctx: RunContext, most_steps: int) -> tuple[Sampler, SampleOptions]:
    """The run's sampler and [sample] options, with at most so many steps."""
    sampler, options = ctx.sampler(), ctx.recipe.sample
    return sampler, evolve(options, steps=min(options.steps or sampler.steps, most_steps))


def _decoded(ctx: RunContext, z: Tensor, options: SampleOptions) -> list[Tensor]:
    """z -> volumes on the CPU, one at a time: a strip may be larger than a batch."""
    codec, found = ctx.codec(), []
    for one in z:
        with autocast(options.precision, ctx.device):
            found.append(codec.decode(one[None])[0].float().cpu())
    return found
