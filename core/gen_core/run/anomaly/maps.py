"""The map of an anomaly: where a volume differs from what partial noising and denoising make of it.

Shape legend: x (B, C, D, H, W) in [-1, 1]; z (B, c, d, h, w) latents in prior space; a map (D, H, W).
Source: Wyatt et al. 2022 (AnoDDPM), who square the difference where we take its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from gen_core.codec import Codec
from gen_core.condition import Conditions
from gen_core.engine.precision import autocast
from gen_core.engine.seeds import sample_noise, stable_seed
from gen_core.options import SampleOptions
from gen_core.prior import DiffusionPrior
from gen_core.run.anomaly.partial_noising import denoised_from, share_of, times_from
from gen_core.sampler import Sampler


@frozen
class AnomalyOptions:
    """times: users' integer steps. n: noise draws that a map is the mean of. smooth: sd of a Gaussian, in voxels.

    minus_codec: what the codec alone gets wrong is taken off the map. batch: latents denoised at once.
    """

    times: tuple[int, ...]
    n: int = 1
    smooth: float = 0.0
    minus_codec: bool = False
    seed: int = 0
    batch: int = 8


@frozen(eq=False)
class Mapped:
    """What one time makes of some volumes. maps: (B, D, H, W); x_hat: (B, C, D, H, W) of the first draw."""

    maps: Tensor
    x_hat: Tensor


@torch.no_grad()
def anomaly_maps(
    x: Tensor,
    ids: Sequence[str],
    options: AnomalyOptions,
    *,
    codec: Codec,
    prior: DiffusionPrior,
    sampler: Sampler,
    sample: SampleOptions,
    cond: Conditions | None = None,
) -> tuple[Tensor, Iterator[Mapped]]:
    """What the codec alone makes of x (B, C, D, H, W), and for each time, in order, the maps.

    A map is the mean over draws and channels of |x - x_hat|, in units of [-1, 1]; t = 0 denoises nothing. The noise of
    a volume is a function of (seed, its id, the draw): the same at every t, and in any batch.
    sample: steps, guidance, clamp and precision of [sample].
    """
    with autocast(sample.precision, x.device):
        z = codec.encode(x)
        x_codec = codec.decode(z)
    z, x_codec = z.float(), x_codec.float()
    rows = [(i, j) for i in range(len(x)) for j in range(options.n)]
    seed = stable_seed(options.seed, "anomaly")

    @torch.no_grad()  # of the generator too: it runs after this function has returned
    def denoised(t: int) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
        ts = times_from(prior.path, share_of(t, prior.path), sample.steps or sampler.steps).to(x.device)
        for start in range(0, len(rows), options.batch):
            part = rows[start : start + options.batch]
            at = [i for i, _ in part]
            noise = sample_noise(seed, [stable_seed(ids[i], j) for i, j in part], z.shape[1:], z.device)
            told = cond.take(at) if cond else None
            settings: dict[str, Any] = {"prior": prior, "sampler": sampler, "options": sample, "cond": told}
            z_hat = denoised_from(z[at], ts, noise=noise, **settings)
            with autocast(sample.precision, x.device):
                yield part, codec.decode(z_hat).float()

    @torch.no_grad()
    def each() -> Iterator[Mapped]:
        for t in options.times:
            maps, first = torch.zeros_like(x[:, 0]), x_codec.clone()
            if t == 0:
                maps = (x - x_codec).abs().mean(1)
            else:
                for part, x_hat in denoised(t):
                    for (i, j), one in zip(part, x_hat):
                        maps[i] += (x[i] - one).abs().mean(0) / options.n
                        if j == 0:
                            first[i] = one
            if options.minus_codec:
                maps = maps - (x - x_codec).abs().mean(1)
            yield Mapped(maps, first)

    return x_codec, each()


def smoothed(volume: np.ndarray, sd: float) -> np.ndarray:
    """A map (D, H, W) under a Gaussian of `sd` voxels, edges repeated; axes of length 1 stay as they are."""
    from scipy.ndimage import gaussian_filter

    sds = [sd if n > 1 else 0.0 for n in volume.shape]
    return gaussian_filter(volume, sds, mode="nearest") if sd else volume
