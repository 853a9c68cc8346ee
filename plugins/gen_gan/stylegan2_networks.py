"""StyleGAN2: mapping network, skip generator, residual discriminator.

Shape legend: B batch; C channels of the images; H, W their size, base * 2^levels; L styles a sample, 2 levels + 2.
Source: Karras et al. 2019, "A style-based generator", section 2; Karras et al. 2020, "Analyzing and improving", fig. 7
(skip generator, residual discriminator) and section 2; Karras et al. 2018, section 3 (minibatch deviation).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gen_core.share import ours, whole
from gen_gan.equalized_layers import EqualConv2d, EqualLinear, leaky
from gen_gan.modulated_conv import ModulatedConv2d
from gen_gan.upfirdn import downsample2d, upsample2d

Size = tuple[int, int]


class Mapping(nn.Module):
    """(z, told) -> w: both brought to unit power, then `layers` linear layers that learn `lr` times as fast."""

    def __init__(self, z_dim: int, told_dim: int, w_dim: int, layers: int, lr: float):
        super().__init__()
        widths = [z_dim + told_dim] + [w_dim] * layers
        self.layers = nn.ModuleList(EqualLinear(n, out, lr=lr) for n, out in zip(widths, widths[1:]))

    def forward(self, z: Tensor, told: Tensor | None = None) -> Tensor:
        """z (B, z_dim), told (B, told_dim) or None -> (B, w_dim)."""
        parts = [z] if told is None else [z, told]
        x = torch.cat([p * (p.square().mean(1, keepdim=True) + 1e-8).rsqrt() for p in parts], 1)
        for layer in self.layers:
            x = leaky(layer(x))
        return x


class StyledConv(nn.Module):
    """Modulated convolution, noise times a learned strength (0 at the start), bias, leaky rectifier."""

    def __init__(self, n: int, out: int, style: int, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv2d(n, out, 3, style, up=up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """noise: (B, 1, H, W)."""
        return leaky(self.conv(x, style) + self.strength * noise + self.bias[:, None, None])


class ToImage(nn.Module):
    """1 x 1 modulated convolution to C channels, not demodulated."""

    def __init__(self, n: int, channels: int, style: int):
        super().__init__()
        self.conv = ModulatedConv2d(n, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.conv(x, style) + self.bias[:, None, None]


class Synthesis(nn.Module):
    """Styles and noise -> images: from a learned constant, every level adds its image to the enlarged one below.

    widths: feature maps from the base to the full size, levels + 1 of them.
    """

    def __init__(self, channels: int, base: Size, widths: list[int], style: int):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(widths[0], *base))
        self.sizes = [(base[0] << k, base[1] << k) for k in range(len(widths))]
        self.convs = nn.ModuleList([StyledConv(widths[0], widths[0], style)])
        for n, out in zip(widths, widths[1:]):
            self.convs += [StyledConv(n, out, style, up=True), StyledConv(out, out, style)]
        self.images = nn.ModuleList(ToImage(n, channels, style) for n in widths)

    @property
    def styles(self) -> int:
        """L: one for each convolution and the last image; an inner image shares the style of the next convolution."""
        return len(self.convs) + 1

    @property
    def noise_sizes(self) -> list[Size]:
        """(H, W) of the noise of every convolution, in order."""
        return [self.sizes[0]] + [size for size in self.sizes[1:] for _ in range(2)]

    def split_noise(self, flat: Tensor) -> Iterator[Tensor]:
        """(B, sum of H W) -> (B, 1, H, W) for every convolution."""
        sizes = self.noise_sizes
        for part, (h, w) in zip(flat.split([h * w for h, w in sizes], 1), sizes):
            yield part.reshape(-1, 1, h, w)

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        """w (B, L, style), noise (B, sum of H W) -> (B, C, H, W)."""
        maps = self.split_noise(noise)
        x = self.convs[0](self.constant.expand(len(w), -1, -1, -1), w[:, 0], next(maps))
        image = self.images[0](x, w[:, 1])
        for k in range(1, len(self.sizes)):
            for i in (2 * k - 1, 2 * k):
                x = self.convs[i](x, w[:, i], next(maps))
            image = upsample2d(image) + self.images[k](x, w[:, 2 * k + 1])
        return image


class ResidualDown(nn.Module):
    """Two 3 x 3 convolutions, the second halving, beside a 1 x 1 shortcut; the sum keeps its variance."""

    def __init__(self, n: int, out: int):
        super().__init__()
        self.first, self.second = EqualConv2d(n, n, 3), EqualConv2d(n, out, 3, down=True)
        self.shortcut = EqualConv2d(n, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (leaky(self.second(leaky(self.first(x)))) + self.shortcut(downsample2d(x))) / math.sqrt(2.0)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """x (B, C, H, W) -> (B, C + 1, H, W): the deviation over groups of at most `group` samples, averaged, as a map.

    Groups are as large as divides B, and reach over processes. Source: Karras et al. 2018, section 3.
    """
    b, c, h, w = x.shape
    y = whole(x.float())
    n = len(y)
    g = max(k for k in range(1, min(group, n) + 1) if n % k == 0)
    y = y.reshape(g, n // g, c, h, w)
    y = ((y - y.mean(0)).square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))  # (B / g,)
    return torch.cat((x, ours(y.repeat(g)).to(x.dtype).reshape(b, 1, 1, 1).expand(b, 1, h, w)), 1)


class Discriminator(nn.Module):
    """Images -> one logit a sample; what is told enters by projection.

    widths: as in `Synthesis`. Source of the projection: Miyato & Koyama 2018, eq. 3.
    """

    def __init__(self, channels: int, base: Size, widths: list[int], told_dim: int, group: int):
        super().__init__()
        down = widths[::-1]
        self.first = EqualConv2d(channels, down[0], 1)
        self.blocks = nn.ModuleList(ResidualDown(n, out) for n, out in zip(down, down[1:]))
        self.group, n = group, down[-1]
        self.last = EqualConv2d(n + 1, n, 3)
        self.dense = EqualLinear(n * base[0] * base[1], n)
        self.logit = EqualLinear(n, 1)
        self.project = EqualLinear(told_dim, n) if told_dim else None

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), told (B, told_dim) or None -> (B,) float32."""
        x = leaky(self.first(x))
        for block in self.blocks:
            x = block(x)
        x = leaky(self.last(minibatch_deviation(x, self.group)))
        x = leaky(self.dense(x.flatten(1)))
        y = self.logit(x)[:, 0]
        if self.project is not None:
            assert told is not None, "built with conditions"
            y = y + (x * self.project(told)).sum(1) / math.sqrt(x.shape[1])
        return y.float()
