"""MONAI's autoencoders, made from our settings. MONAI is imported here, when one is made: that takes seconds.

Every choice that MONAI lets differ by version is passed, so that a new default there changes nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gen_monai.codec_options import MaisiAutoencoder, MonaiAutoencoderKl, MonaiVqvae

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6  # of the group norms


def autoencoder_kl(options: MonaiAutoencoderKl, channels: int) -> nn.Module:
    """MONAI's AutoencoderKL of volumes with so many `channels`."""
    from monai.networks.nets import AutoencoderKL

    return AutoencoderKL(
        spatial_dims=2 if options.flat else 3,
        in_channels=channels,
        out_channels=channels,
        num_res_blocks=options.blocks,
        channels=options.channels,
        attention_levels=options.attention_levels,
        latent_channels=options.latent_channels,
        norm_num_groups=options.norm_groups,
        norm_eps=EPS,
        with_encoder_nonlocal_attn=options.middle_encoder,
        with_decoder_nonlocal_attn=options.middle_decoder,
        use_convtranspose=options.transposed,
        include_fc=options.include_fc,
        use_combined_linear=options.combined_linear,
        use_flash_attention=options.flash_attention,
    )


def maisi_autoencoder(options: MaisiAutoencoder, channels: int) -> nn.Module:
    """MAISI's AutoencoderKL: linear up-sampling, no attention, convolutions in slabs."""
    from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

    levels = len(options.multipliers)
    return AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=channels,
        out_channels=channels,
        num_res_blocks=(options.blocks,) * levels,
        num_channels=options.channels,
        attention_levels=(False,) * levels,
        latent_channels=options.latent_channels,
        norm_num_groups=options.norm_groups,
        norm_eps=EPS,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        include_fc=False,
        use_convtranspose=False,
        num_splits=options.splits,
        dim_split=0,
        norm_float16=False,
        save_mem=False,  # it would empty CUDA's cache after every layer
    )


def vqvae(options: MonaiVqvae, channels: int) -> nn.Module:
    """MONAI's VQVAE; every level halves all axes (kernel 4, stride 2, padding 1)."""
    from monai.networks.nets import VQVAE

    levels = len(options.multipliers)
    network = VQVAE(
        spatial_dims=2 if options.flat else 3,
        in_channels=channels,
        out_channels=channels,
        channels=options.channels,
        num_res_layers=options.blocks,
        num_res_channels=options.channels,
        downsample_parameters=((2, 4, 1, 1),) * levels,
        upsample_parameters=((2, 4, 1, 1, 0),) * levels,
        num_embeddings=options.codes,
        embedding_dim=options.latent_channels,
        commitment_cost=options.commitment,
        decay=options.decay,
        dropout=0.0,
    )
    quantizer = network.quantizer.quantizer
    # MONAI starts the counts at 0 beside sums of one vector each: codes that the first batch leaves out would be
    # divided by nearly nothing, and thrown 1e5 times as far. One vector each it is.
    quantizer.ema_cluster_size.fill_(1.0)
    # codes follow the encoder, not a gradient: a buffer is put back when a step fails, and not averaged with weights
    codes = quantizer.embedding.weight.detach()
    del quantizer.embedding.weight
    quantizer.embedding.register_buffer("weight", codes)  # under the same name
    return network


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An AutoencoderKL's state dict under today's names, if it has those of the former package MONAI Generative."""
    rules = (
        (r"(blocks\.\d+)\.(to_[qkv])\.", r"\1.attn.\2."),
        (r"(blocks\.\d+)\.proj_attn\.", r"\1.attn.out_proj."),
        (r"^(decoder\.blocks\.\d+)\.conv\.conv\.", r"\1.postconv.conv."),
    )
    found = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found
