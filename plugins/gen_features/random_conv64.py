"""A fixed random convolutional embedding: 3 channels in, 64 features out, no weights file.

Random networks order generative models much as trained ones do where the domain is far from natural images:
Naeem et al. 2020, "Reliable fidelity and diversity metrics", section 5 (random embeddings). Ours is smaller (three
strided convolutions) and pools mean and sd of every layer, so that fine texture and coarse shape both count.

Weights come from the raw bits of PCG64, scaled by exact arithmetic: the same bytes with any version of torch or numpy,
on any machine. Their SHA-256 stands in every protocol.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu

from gen_core.features import FeatureNetwork, FeaturesContext
from gen_features.feature_options import RandomConv64 as Options

LAYERS = ((3, 8, 5), (8, 8, 3), (8, 16, 3))  # channels in, out, kernel; each strides by 2
SLOPE = 0.2  # of the leaky rectifier: a half of the signs would be lost without it

CACHE_BYTES = 4 << 20  # of a processor core's own cache


def random_weights(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel (out, in, k, k) and bias (out,) of each layer, float32: uniform, He-scaled (He et al. 2015, eq. 10)."""
    bits = np.random.PCG64(seed)
    # the upper 24 bits, as odd multiples of 2^-24 in (-1, 1): exact in float32, symmetric, never 0
    draw = lambda *shape: (
        ((bits.random_raw(int(np.prod(shape))) >> np.uint64(40)).astype(np.float64) + 0.5) * 2.0**-23 - 1.0
    ).reshape(shape)
    layers = []
    for cin, cout, k in LAYERS:
        bound = (6.0 / ((1.0 + SLOPE**2) * cin * k * k)) ** 0.5
        layers.append(((draw(cout, cin, k, k) * bound).astype(np.float32), (draw(cout) * 0.25).astype(np.float32)))
    return layers


class RandomConv64(FeatureNetwork):
    """Images of any size from 8 x 8 -> mean and sd over positions of each layer's maps (8 + 8 + 16 channels)."""

    takes = "image"
    dim = 64
    fitted = False

    def __init__(self, seed: int = 0):
        super().__init__()
        self.seed = seed
        digest = hashlib.sha256()
        self.kernels = nn.ParameterList()
        self.biases = nn.ParameterList()
        for kernel, bias in random_weights(seed):
            digest.update(kernel.tobytes() + bias.tobytes())
            self.kernels.append(nn.Parameter(torch.from_numpy(kernel), requires_grad=False))
            self.biases.append(nn.Parameter(torch.from_numpy(bias), requires_grad=False))
        self.sha256 = digest.hexdigest()

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] -> (B, 64) float32. Raises: ValueError for other shapes."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 8:
            raise ValueError(f"random-conv64 takes (B, 3, H, W) with H, W >= 8, got {tuple(x.shape)}")
        return self._from_first(_strided(x.float(), self.kernels[0], self.biases[0]))

    @torch.no_grad()
    def prepare_bands(self, bands: Tensor) -> Tensor:
        """bands (D, H, W) -> (D, 3, 8, H', W'): what each band gives to the first layer as red, green or blue.

        The first layer is linear, so the maps of a triplet are a sum of three of these: of D bands 3 D maps are
        convolved, however many triplets follow. The bias lies in red.
        """
        if bands.ndim != 3 or min(bands.shape[1:]) < 8:
            raise ValueError(f"random-conv64 takes bands (D, H, W) with H, W >= 8, got {tuple(bands.shape)}")
        kernel, bias = self.kernels[0], self.biases[0]
        parts = torch.stack([bias, torch.zeros_like(bias), torch.zeros_like(bias)]).flatten()
        each = _strided(bands.float()[:, None], kernel.transpose(0, 1).flatten(0, 1)[:, None], parts)
        return each.unflatten(1, (3, -1))

    @torch.no_grad()
    def features_of_triplets(self, prepared: Tensor, picks: Tensor) -> Tensor:
        """picks (T, 3) of the bands that `prepare_bands` saw -> (T, 64), `features` up to rounding."""
        # on the CPU as many at once as its cache holds, in memory that is used again: fresh pages cost more than sums
        at_once = max(1, CACHE_BYTES // (4 * prepared[0, 0].numel())) if prepared.device.type == "cpu" else 128
        maps = prepared.new_empty(min(at_once, len(picks)), *prepared.shape[2:])
        work = torch.empty_like(maps)
        reds, greens, blues = (part.unbind(0) for part in prepared.unbind(1))
        found = []
        for some in picks.split(at_once):
            for total, (red, green, blue) in zip(maps.unbind(0), some.tolist()):
                torch.add(reds[red], greens[green], out=total).add_(blues[blue])
            found.append(self._from_first(maps[: len(some)], work[: len(some)]))
        return torch.cat(found)

    def _from_first(self, h: Tensor, work: Tensor | None = None) -> Tensor:
        """Features from the first layer's maps h (B, 8, H', W') before the rectifier; overwrites h and `work`."""
        found = []
        for kernel, bias in (*zip(self.kernels[1:], self.biases[1:]), (None, None)):
            h = leaky_relu(h, SLOPE, inplace=True)
            flat = h.flatten(2)
            mean = flat.mean(2)
            # two passes: the variance of nearly flat maps must not be the difference of large numbers
            room = None if work is None else work.view(-1)[: flat.numel()].view_as(flat)
            centred = torch.sub(flat, mean[..., None], out=room)
            found += [mean, torch.linalg.vector_norm(centred, dim=2) / flat.shape[2] ** 0.5]
            if kernel is not None:
                h = _strided(h, kernel, bias)
        return torch.cat(found, 1)

    def protocol(self) -> dict[str, Any]:
        return {
            "name": "random-conv64",
            "sha256": self.sha256,
            "seed": self.seed,
            "input": "3 channels in [-1, 1], native size, no resize",
            "statistics": "mean and sd over positions of three layers",
        }


def _strided(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A convolution of stride 2 that keeps ceil(H / 2), ceil(W / 2)."""
    return conv2d(x, kernel, bias, stride=2, padding=kernel.shape[-1] // 2)


def build(options: Options, context: FeaturesContext) -> RandomConv64:
    """The network of a recipe's table."""
    return RandomConv64(options.seed)
