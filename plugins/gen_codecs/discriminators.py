"""Patch discriminators: of single slices as RGB images, and of whole volumes.

Source: Isola et al. 2017 (PatchGAN); Wang et al. 2018 (features of every layer for matching); Khader et al. 2023
(slice-wise 2-D and 3-D discriminators side by side).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_codecs.blocks import Conv3d, norm
from gen_codecs.vq_options import DiscriminatorOptions
from gen_core.share import rows


class PatchDiscriminator(nn.Module):
    """x (B, C, D, H, W) -> the maps of every layer, the last one the logits (B, 1, d, h, w).

    flat: kernels of depth 1 see images (D = 1). Strides stop along an axis that has become too short.
    """

    def __init__(self, channels: int, options: DiscriminatorOptions, flat: bool):
        super().__init__()
        self.flat = flat
        widths = [options.width * min(2**i, 8) for i in range(options.layers + 1)]
        inputs = [channels, *widths[:-1]]
        strides = [2] * options.layers + [1]
        self.layers = nn.ModuleList()
        for i, (c_in, c, stride) in enumerate(zip(inputs, widths, strides)):
            kernel = (1 if flat else 4, 4, 4) if stride == 2 else (1 if flat else 3, 3, 3)
            step = (1 if flat else stride, stride, stride)
            layer: list[nn.Module] = [PatchConv(c_in, c, kernel, step)]
            if i:
                layer.append(norm(options.norm, c, options.norm_groups))
            layer.append(nn.LeakyReLU(0.2))
            self.layers.append(nn.Sequential(*layer))
        self.head = Conv3d(widths[-1], 1, (1 if flat else 3, 3, 3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return [*maps, self.head(x)]


class PatchConv(nn.Module):
    """A strided convolution that zero-pads axes shorter than its kernel, so that thin volumes pass."""

    def __init__(self, channels_in: int, channels: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.conv = Conv3d(channels_in, channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        lack = [max(0, k - 2 * p - n) for k, p, n in zip(self.conv.kernel_size, self.conv.pads, x.shape[2:])]
        if any(lack):
            x = F.pad(x, (0, lack[2], 0, lack[1], 0, lack[0]))
        return self.conv(x)


def random_slices(x: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """The depth indices (B, wanted) of slices to look at: distinct where depth allows, falling.

    For bands this is the order of falling wavelength, so that three of them form an RGB image.
    """
    b, d = x.shape[0], x.shape[2]
    keys = rows(b, lambda n: torch.rand(n, max(d, wanted), generator=generator, device=x.device))
    return keys.argsort(1)[:, :wanted].remainder(d).sort(1, descending=True).values


def as_image(x: Tensor, at: Tensor) -> Tensor:
    """x (B, C, D, H, W), at (B, k) -> (B, C k, 1, H, W): the chosen slices as channels of one image."""
    b, c, _, h, w = x.shape
    index = at[:, None, :, None, None].expand(b, c, at.shape[1], h, w)
    return x.gather(2, index).flatten(1, 2)[:, :, None]
