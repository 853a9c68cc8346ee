"""Settings of the vector-quantized codecs; the defaults are the published hyperspectral system.

Source: van den Oord et al. 2017 (VQ-VAE); Esser et al. 2021 (VQ-GAN); Khader et al. 2023 (3-D layout and numbers).
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, Factory, field, frozen, validators

from gen_core.options import FitOptions, positive

STRIDES = (1, 2, 4, 8, 16)


def at_least(low: float, default: Any) -> Any:
    """An attrs field whose value must be >= `low`."""
    return field(default=default, validator=validators.ge(low))


def share(default: float) -> Any:
    """An attrs field in [0, 1]."""
    return field(default=default, validator=[validators.ge(0.0), validators.le(1.0)])


def check_stride(options: Any, attribute: Attribute[Any], value: tuple[int, int, int]) -> None:
    if any(s not in STRIDES for s in value):
        raise ValueError(f"stride {list(value)}: each of D, H, W must be one of {list(STRIDES)}")
    if max(value) == 1:
        raise ValueError("stride [1, 1, 1] compresses nothing: use the codec 'identity'")


def check_multipliers(options: Any, attribute: Attribute[Any], value: tuple[float, ...]) -> None:
    if any(m <= 0 for m in value):
        raise ValueError(f"multipliers {list(value)}: each must be > 0")


@frozen
class CodebookOptions:
    """[codec.codebook]: the table of codes and how it follows the encoder."""

    decay: float = field(default=0.99, validator=[validators.ge(0.0), validators.lt(1.0)])  # of the EMA
    laplace_eps: float = at_least(0.0, 1e-7)  # smoothing of the EMA counts
    dead_below: float = at_least(0.0, 1.0)  # EMA count under which a code is dead; 0 = never
    dead_share: float = share(0.1)  # the threshold is never above this share of tokens a step / codes
    dead_limit: float = share(0.05)  # at most this share of min(codes, tokens a step) is redrawn in a step
    kmeans_every: int = at_least(0, 1)  # epochs between K-means resets; 0 = off
    kmeans_until: float = share(1.0)  # no reset after this share of the fit's steps
    kmeans_iterations: int = positive(10)  # Lloyd iterations of a reset
    kmeans_start: Literal["codebook", "k-means++"] = "codebook"  # where a reset starts from
    queue: int = positive(65536)  # encoder vectors of the latest training batches kept for K-means
    use_window: int = positive(100)  # steps over which `code_use` is counted


@frozen
class LossOptions:
    """[codec.losses]: weights of the terms; 0 turns a term off."""

    l1: float = at_least(0.0, 4.0)
    smooth: float = at_least(0.0, 0.0)  # beta of the smooth L1 (quadratic within +-beta); 0 = plain L1
    # Weights of the slices or bands in that term, scaled to a mean of 1; none = all alike. Bands in which
    # fine structures stand out deserve more: a plain mean spends the codes on the many bands that look the same.
    bands: tuple[float, ...] = field(default=(), validator=validators.deep_iterable(validators.gt(0.0)))
    gradient: float = at_least(0.0, 0.0)  # L1 between in-plane differences
    commitment: float = at_least(0.0, 0.25)
    lpips: float = at_least(0.0, 4.0)  # off without `lpips_weights`
    lpips_weights: str = ""  # safetensors file of the VGG-16 and its linear heads
    lpips_sha256: str = ""  # what that file must hash to
    gan_2d: float = at_least(0.0, 1.0)
    gan_3d: float = at_least(0.0, 1.0)
    feature_matching: float = at_least(0.0, 4.0)
    adaptive: bool = False  # scale the GAN terms by the ratio of gradient norms at the last decoder layer


@frozen
class DiscriminatorOptions:
    """[codec.discriminator]: the slice-wise and the volume patch discriminator."""

    # optimizer steps before they take part
    start: int = field(default=5000, validator=validators.ge(0), metadata={"smoke": 0})
    width: int = positive(64, metadata={"smoke": 8})  # channels of the first layer, doubling up to 8 x
    layers: int = positive(3)  # strided layers
    norm: Literal["batch", "instance", "group"] = "instance"
    norm_groups: int = positive(32)  # of norm "group"


@frozen
class VqNetwork:
    """What `vqgan` and `vqvae` share."""

    stride: tuple[int, int, int] = field(default=(8, 8, 8), validator=check_stride)  # D, H, W
    levels: int = at_least(0, 0)  # resolution levels; 0 = each halves what is left, log2(largest stride)
    width: int = positive(16, metadata={"smoke": 4})  # channels before the first level
    multipliers: tuple[float, ...] = field(default=(), validator=check_multipliers)
    # width x multiplier = channels of a level; () = 2, 4, 8, ...
    blocks_encoder: int = at_least(0, 1)  # residual blocks a level
    blocks_decoder: int = field(default=2, validator=validators.ge(0), metadata={"smoke": 1})
    resample: Literal["conv", "shuffle"] = "conv"  # strided (transposed) convolutions, or space to depth
    padding: Literal["replicate", "zeros"] = "replicate"
    norm: Literal["group", "batch", "instance"] = "group"
    norm_groups: int = positive(32)  # at most; lowered to a divisor of the channels
    latent_channels: int = positive(8)
    codes: int = field(default=1024, validator=validators.ge(2))
    codebook: CodebookOptions = Factory(CodebookOptions)
    losses: LossOptions = Factory(LossOptions)
    latent_scaling: Literal["codebook-minmax", "per-channel"] = "codebook-minmax"
    requantize: bool = True  # snap latents to codes before decoding
    fit: FitOptions = Factory(
        lambda: FitOptions(
            steps=100_000, batch=4, optimizer="adam", lr=3e-4, betas=(0.5, 0.9), clip=1.0, precision="bf16"
        )
    )

    def __attrs_post_init__(self) -> None:
        deepest = max(self.stride).bit_length() - 1
        if self.levels > deepest:
            raise ValueError(f"levels = {self.levels}: stride {list(self.stride)} has at most {deepest}")
        if self.multipliers and len(self.multipliers) != (self.levels or deepest):
            raise ValueError(
                f"multipliers {list(self.multipliers)}: one for each of the {self.levels or deepest} levels"
            )


@frozen
class Vqgan(VqNetwork):
    """[codec] use = "vqgan"."""

    discriminator: DiscriminatorOptions = Factory(DiscriminatorOptions)


@frozen
class Vqvae(VqNetwork):
    """[codec] use = "vqvae": the GAN and feature-matching weights have no effect and must stay untouched."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        standard = LossOptions()
        for name in ("gan_2d", "gan_3d", "feature_matching", "adaptive"):
            if getattr(self.losses, name) not in (0, getattr(standard, name)):
                raise ValueError(f"losses.{name} has no effect without discriminators: use the codec 'vqgan'")
