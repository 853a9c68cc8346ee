"""Encoder and decoder of the vector-quantized codecs: levels of residual blocks between changes of resolution.

Two layouts share the code. "conv": kernel-4 stride-2 down, transposed up, residual blocks after each change (Khader et
al. 2023). "shuffle": space to depth before a convolution going down, the reverse going up, residual blocks always
on the coarse side: no feature map at full resolution, which is what makes it quick on small machines.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gen_codecs.blocks import (
    Axes,
    Conv3d,
    ResidualBlock,
    UpConv3d,
    depth_to_space,
    factor_stride,
    frozen_statistics,
    norm,
    resample_kernel,
    silu,
    space_to_depth,
)
from gen_codecs.vq_options import VqNetwork


def level_channels(options: VqNetwork) -> list[int]:
    """Channels of each level, finest first."""
    levels = len(factor_stride(options.stride, options.levels))
    multipliers = options.multipliers or [2 ** (i + 1) for i in range(levels)]
    return [max(1, round(options.width * m)) for m in multipliers]


class Down(nn.Module):
    """One change of resolution going down, with the residual blocks of the coarser level."""

    def __init__(self, channels_in: int, channels: int, stride: Axes, options: VqNetwork):
        super().__init__()
        self.stride, self.shuffle = stride, options.resample == "shuffle"
        if self.shuffle:
            self.resample = Conv3d(channels_in * prod(stride), channels, (3, 3, 3), padding=options.padding)
        else:
            kernel = resample_kernel(stride)
            self.resample = Conv3d(channels_in, channels, kernel, stride, padding=options.padding)
        self.blocks = _blocks(options.blocks_encoder, channels, options)

    def forward(self, x: Tensor) -> Tensor:
        return _in_turn(self.blocks, self.resample(space_to_depth(x, self.stride) if self.shuffle else x))


class Up(nn.Module):
    """One change of resolution going up, with the residual blocks of its level."""

    def __init__(self, channels_in: int, channels: int, stride: Axes, options: VqNetwork):
        super().__init__()
        self.stride, self.shuffle = stride, options.resample == "shuffle"
        if self.shuffle:
            self.blocks = _blocks(options.blocks_decoder, channels_in, options)
            self.resample = Conv3d(channels_in, channels * prod(stride), (3, 3, 3), padding=options.padding)
        else:
            self.resample = UpConv3d(channels_in, channels, stride, options.padding)
            self.blocks = _blocks(options.blocks_decoder, channels, options)

    def forward(self, x: Tensor) -> Tensor:
        if self.shuffle:
            return depth_to_space(self.resample(self.blocks(x)), self.stride)
        return _in_turn(self.blocks, self.resample(x))


def _blocks(n: int, channels: int, options: VqNetwork) -> nn.Sequential:
    block = lambda: ResidualBlock(channels, options.norm, options.norm_groups, options.padding)
    return nn.Sequential(*(block() for _ in range(n)))


def _in_turn(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """blocks(x); a call would hold x, a map at full resolution, until the last block has ended."""
    for block in blocks:
        x = block(x)
    return x


class Levels(nn.Module):
    """A row of levels that can recompute their activations in the backward pass."""

    recompute = False

    def run(self, level: nn.Module, x: Tensor) -> Tensor:
        if self.recompute and self.training and torch.is_grad_enabled():
            again = lambda: (
                nullcontext(),
                frozen_statistics(level),
            )  # contexts of the first pass, of the second
            return checkpoint(level, x, use_reentrant=False, preserve_rng_state=False, context_fn=again)
        return level(x)


class Encoder(Levels):
    """x (B, channels_in, D, H, W), sizes divisible by the stride -> maps (B, `channels`, d, h, w)."""

    def __init__(self, channels_in: int, options: VqNetwork):
        super().__init__()
        strides, channels = factor_stride(options.stride, options.levels), level_channels(options)
        shuffle = options.resample == "shuffle"
        first = channels_in if shuffle else options.width
        self.stem = nn.Identity() if shuffle else Conv3d(channels_in, first, (3, 3, 3), padding=options.padding)
        self.levels = nn.ModuleList(
            Down(c_in, c, s, options) for c_in, c, s in zip([first, *channels], channels, strides)
        )
        self.channels = channels[-1]
        self.norm = norm(options.norm, self.channels, options.norm_groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for level in self.levels:
            x = self.run(level, x)
        return silu(self.norm(x))


class Decoder(Levels):
    """z_q (B, latent_channels, d, h, w) -> x_hat (B, channels_out, D, H, W), unclamped."""

    def __init__(self, channels_out: int, options: VqNetwork):
        super().__init__()
        strides, channels = factor_stride(options.stride, options.levels), level_channels(options)
        coarse = channels[-1]
        if options.resample == "shuffle":
            self.stem = Conv3d(options.latent_channels, coarse, (3, 3, 3), padding=options.padding)
            widths = [*channels[::-1], options.width]
            outs = [*channels[-2::-1], options.width] if len(channels) > 1 else [options.width]
            outs[-1] = channels_out
        else:
            self.stem = Conv3d(options.latent_channels, coarse, (1, 1, 1))
            widths, outs = [coarse, *channels[::-1]], channels[::-1]
        self.shuffle = options.resample == "shuffle"
        self.norm = norm(options.norm, coarse if self.shuffle else channels[0], options.norm_groups)
        self.levels = nn.ModuleList(Up(c_in, c, s, options) for c_in, c, s in zip(widths, outs, reversed(strides)))
        if not self.shuffle:
            self.head = Conv3d(channels[0], channels_out, (3, 3, 3), padding=options.padding)

    def forward(self, z_q: Tensor) -> Tensor:
        h = self.stem(z_q)
        if self.shuffle:
            h = silu(self.norm(h))
        for level in self.levels:
            h = self.run(level, h)
        return h if self.shuffle else self.head(silu(self.norm(h)))

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight of the layer that makes the voxels (for the adaptive GAN weight)."""
        return self.levels[-1].resample.weight if self.shuffle else self.head.weight  # type: ignore[union-attr,return-value]
