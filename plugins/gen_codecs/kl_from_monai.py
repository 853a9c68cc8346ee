"""Weights of MONAI's AutoencoderKL, or MAISI's, in our KL autoencoder: the same network under other names.

They agree where stride is 2 a level on all axes, `middle` equals their non-local attention in both halves, and
attention has its output projection (`include_fc`); MAISI's is `upsample = "linear"`, `middle = false`, no attention.
Weights of 2-D networks go into the middle slice of our kernels, which is what volumes of depth 1 see.

MONAI lists the blocks of encoder and decoder in one row; ours stand in levels, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gen_codecs.attention import VoxelAttention
from gen_codecs.blocks import Conv3d, PadDownConv3d, RepeatUpConv3d, ResidualBlock
from gen_codecs.kl_codec import KlCodec
from gen_core.errors import DataError

ATTENTION = (("norm", "norm"), ("q", "attn.to_q"), ("k", "attn.to_k"), ("v", "attn.to_v"), ("out", "attn.out_proj"))


def init_from_monai(codec: KlCodec, state: Mapping[str, Tensor]) -> None:
    """Fill encoder and decoder with the state dict of MONAI's AutoencoderKL or AutoencoderKlMaisi.

    Discriminators and the scaling of latents stay as they are: calibrate afterwards. MAISI's weights expect intensities
    in [0, 1] and axes (x, y, z); ours come in [-1, 1] and (z, y, x): adapt what goes in.

    Raises: DataError naming the tensor that is missing, left over, or of another shape.
    """
    left = {_plain(name): (name, tensor) for name, tensor in state.items()}
    filled: list[tuple[Tensor, Tensor]] = []
    for parameter, name in _pairs(codec):
        if name not in left:
            raise DataError(f"weights of MONAI's AutoencoderKL: no tensor '{name}'; the architectures differ")
        theirs, tensor = left.pop(name)
        if tensor.ndim == parameter.ndim - 1 and parameter.ndim == 5:  # 2-D: only the middle slice
            deep = torch.zeros(*tensor.shape[:2], parameter.shape[2], *tensor.shape[2:], dtype=tensor.dtype)
            deep[:, :, parameter.shape[2] // 2] = tensor
            tensor = deep
        if tensor.shape != parameter.shape:
            raise DataError(
                f"weights of MONAI's AutoencoderKL: '{theirs}' is {tuple(tensor.shape)}, "
                f"expected {tuple(parameter.shape)}; the architectures differ"
            )
        filled.append((parameter, tensor))
    if left:
        names = sorted(name for name, _ in left.values())
        raise DataError(
            f"weights of MONAI's AutoencoderKL: '{names[0]}' and {len(names) - 1} more have no place here; "
            "the architectures differ"
        )
    with torch.no_grad():
        for parameter, tensor in filled:
            parameter.copy_(tensor)


def _plain(name: str) -> str:
    """A name without the wrappers around a convolution: MAISI has more of them than MONAI."""
    parts = name.split(".")
    return ".".join(p for p in parts if p not in ("conv", "postconv"))


def _pairs(codec: KlCodec) -> Iterator[tuple[nn.Parameter, str]]:
    """Each of our parameters with the plain name of theirs."""
    encoder, decoder = codec.encoder, codec.decoder
    yield from _weights(encoder.to_mean, "quant_conv_mu")
    yield from _weights(encoder.to_log_variance, "quant_conv_log_sigma")
    yield from _weights(decoder.from_latent, "post_quant_conv")
    for ours, half in ((encoder, "encoder"), (decoder, "decoder")):
        row = [ours.stem, *(block for level in ours.levels for block in level), ours.norm, ours.head]  # type: ignore[union-attr]
        for i, block in enumerate(row):
            yield from _block(block, f"{half}.blocks.{i}")


def _block(block: nn.Module, name: str) -> Iterator[tuple[nn.Parameter, str]]:
    if isinstance(block, ResidualBlock):
        for part in ("norm1", "conv1", "norm2", "conv2"):
            yield from _weights(getattr(block, part), f"{name}.{part}")
        if isinstance(block.shortcut, Conv3d):
            yield from _weights(block.shortcut, f"{name}.nin_shortcut")
    elif isinstance(block, VoxelAttention):
        for part, theirs in ATTENTION:
            yield from _weights(getattr(block, part), f"{name}.{theirs}")
    elif isinstance(block, RepeatUpConv3d):
        yield from _weights(block.conv, name)
    else:
        assert isinstance(block, PadDownConv3d | Conv3d | nn.GroupNorm), type(block)
        yield from _weights(block, name)


def _weights(module: nn.Module, name: str) -> Iterator[tuple[nn.Parameter, str]]:
    yield module.weight, f"{name}.weight"  # type: ignore[misc]
    yield module.bias, f"{name}.bias"  # type: ignore[misc]
