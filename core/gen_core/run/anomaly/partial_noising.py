"""Noise a latent up to time t and denoise it from there, with any sampler of any diffusion prior.

Shape legend: z (B, c, d, h, w) latents in prior space.
Source: Meng et al. 2022 (SDEdit), Wyatt et al. 2022 (AnoDDPM: t well below T keeps what is normal in place).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_core.condition import Conditions
from gen_core.errors import UsageError
from gen_core.options import SampleOptions
from gen_core.prior import DiffusionPrior, NoisePath
from gen_core.run.samples.sampling import asked
from gen_core.sampler import Noise, Sampler

CONTINUOUS = 1000  # steps in which users count the times of a path that has none of its own
SAME = 1e-6  # times nearer than this are one


def share_of(step: int, path: NoisePath) -> float:
    """The user's integer step as a time in [0, 1]. Raises: UsageError when the path has no such step."""
    T = path.steps or CONTINUOUS
    if not 0 <= step <= T:
        raise UsageError(f"t = {step}: expected 0..{T}")
    return step / T


def times_from(path: NoisePath, start: float, steps: int) -> Tensor:
    """Falling times from `start` to 0 (float64): the path's own grid of `steps` steps from 1, where it is below."""
    grid = path.grid(steps)
    return torch.cat([torch.tensor([start], dtype=grid.dtype), grid[grid < start - SAME]])


def denoised_from(
    z_0: Tensor,
    ts: Tensor,
    *,
    prior: DiffusionPrior,
    sampler: Sampler,
    options: SampleOptions,
    noise: Noise,
    cond: Conditions | None = None,
) -> Tensor:
    """z_0 noised to ts[0] by noise(0) and denoised along `ts` under `cond`, (B, c, d, h, w) float32.

    options: guidance, bounds and precision are those of [sample].
    """
    start, path = ts[:1], prior.path
    z = path.alpha(start).to(z_0) * z_0 + path.sigma(start).to(z_0) * noise(0)
    denoise = asked(prior, options, z_0.device, cond)
    return sampler.sample(denoise, path, z, ts, lambda k: noise(k + 1))
