"""Encoder and decoder of the KL autoencoder: residual blocks and attention between changes of resolution.

x (B, C, D, H, W) with sizes divisible by the stride -> maps (B, C', d, h, w) -> mean and log-variance (B, c, d, h, w).
Source: Rombach et al. 2022, appendix (after Esser et al. 2021); Pinaya et al. 2022 (3-D). As published for lung CT the
maps are normalized before the last convolution, but not rectified.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_codecs.attention import VoxelAttention
from gen_codecs.blocks import Axes, Conv3d, PadDownConv3d, RepeatUpConv3d, ResidualBlock, factor_stride, norm
from gen_codecs.encoder_decoder import Levels
from gen_codecs.kl_options import AutoencoderKl
from gen_core.share import rows

LOG_VARIANCE = (-30.0, 20.0)  # clamped to: the standard deviation stays within 3e-7 .. 2e4


def _residual(channels_in: int, channels: int, options: AutoencoderKl) -> ResidualBlock:
    return ResidualBlock(channels_in, "group", options.norm_groups, "zeros", channels)


def _blocks(channels_in: int, channels: int, level: int, options: AutoencoderKl) -> list[nn.Module]:
    """The residual blocks of a level, each followed by attention where the level has it."""
    found: list[nn.Module] = []
    for i in range(options.blocks):
        found.append(_residual(channels if i else channels_in, channels, options))
        if options.attends(level):
            found.append(VoxelAttention(channels, options.norm_groups))
    return found


def _middle(channels: int, options: AutoencoderKl) -> nn.Sequential:
    return nn.Sequential(
        _residual(channels, channels, options),
        VoxelAttention(channels, options.norm_groups),
        _residual(channels, channels, options),
    )


def _strides(options: AutoencoderKl) -> list[Axes]:
    return factor_stride(options.stride, len(options.multipliers) - 1)


class KlEncoder(Levels):
    """x -> `maps` (B, `channels`, d, h, w); `moments` makes mean and log-variance of them."""

    def __init__(self, channels_in: int, options: AutoencoderKl):
        super().__init__()
        widths, strides, c = options.channels, _strides(options), options.latent_channels
        self.stem = Conv3d(channels_in, widths[0], (3, 3, 3))
        self.levels = nn.ModuleList()
        for i, (c_in, width) in enumerate(zip([widths[0], *widths], widths)):
            level = _blocks(c_in, width, i, options)
            if i < len(strides):
                level.append(PadDownConv3d(width, width, strides[i]))
            self.levels.append(nn.Sequential(*level))
        if options.middle:
            self.levels.append(_middle(widths[-1], options))
        self.channels = widths[-1]
        self.norm = norm("group", self.channels, options.norm_groups)
        self.head = Conv3d(self.channels, c, (3, 3, 3))
        self.to_mean, self.to_log_variance = Conv3d(c, c, (1, 1, 1)), Conv3d(c, c, (1, 1, 1))

    def maps(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for level in self.levels:
            x = self.run(level, x)
        return self.norm(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (B, latent_channels, d, h, w) float32."""
        return self.moments(self.maps(x))

    def moments(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the maps."""
        h = self.head(maps)
        return self.to_mean(h).float(), self.to_log_variance(h).float().clamp(*LOG_VARIANCE)


class KlDecoder(Levels):
    """A draw of the posterior (B, latent_channels, d, h, w) -> x_hat (B, channels_out, D, H, W), unclamped."""

    def __init__(self, channels_out: int, options: AutoencoderKl):
        super().__init__()
        widths, strides = options.channels[::-1], _strides(options)[::-1]
        self.from_latent = Conv3d(options.latent_channels, options.latent_channels, (1, 1, 1))
        self.stem = Conv3d(options.latent_channels, widths[0], (3, 3, 3))
        self.levels = nn.ModuleList([_middle(widths[0], options)] if options.middle else [])
        for i, (c_in, width) in enumerate(zip([widths[0], *widths], widths)):
            level = _blocks(c_in, width, len(widths) - 1 - i, options)
            if i < len(strides):
                level.append(RepeatUpConv3d(width, width, strides[i], options.upsample == "linear"))
            self.levels.append(nn.Sequential(*level))
        self.norm = norm("group", widths[-1], options.norm_groups)
        self.head = Conv3d(widths[-1], channels_out, (3, 3, 3))

    def forward(self, z: Tensor) -> Tensor:
        h = self.stem(self.from_latent(z))
        for level in self.levels:
            h = self.run(level, h)
        return self.head(self.norm(h))

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight of the layer that makes the voxels (for the adaptive GAN weight)."""
        return self.head.weight


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) in nats, (B,): summed over the values of each sample.

    Source: Kingma & Welling 2014, appendix B.
    """
    terms = mean.square() + log_variance.exp() - log_variance - 1
    return 0.5 * terms.flatten(1).sum(1)


def reparametrized(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """mean + sigma eps with eps from `generator`. Source: Kingma & Welling 2014, section 2.4."""
    eps = rows(len(mean), lambda n: torch.randn(n, *mean.shape[1:], generator=generator, device=mean.device))
    return mean + (0.5 * log_variance).exp() * eps
