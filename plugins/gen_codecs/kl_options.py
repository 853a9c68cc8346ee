"""Settings of the KL autoencoder; the defaults are the published lung-CT system (128^3 -> 3 x 32^3).

Source: Kingma & Welling 2014; Rombach et al. 2022 (layout, losses); Pinaya et al. 2022 (3-D, weights of the losses).
"""

from __future__ import annotations

from typing import Literal

from attrs import Factory, field, frozen, validators

from gen_codecs.vq_options import DiscriminatorOptions, at_least, check_multipliers, check_stride
from gen_core.options import FitOptions, positive


@frozen
class KlLossOptions:
    """[codec.losses]: weights of the terms; 0 turns a term off."""

    l1: float = at_least(0.0, 1.0)  # mean over voxels
    kl: float = at_least(0.0, 1e-6)  # sum over the latent's values, mean over the batch
    lpips: float = at_least(0.0, 1e-3)  # off without `lpips_weights`
    lpips_weights: str = ""  # safetensors file of the VGG-16 and its linear heads
    lpips_sha256: str = ""  # what that file must hash to
    # share of the slices along each of the three axes that the 2-D network sees in a step
    lpips_share: float = field(default=0.5, validator=[validators.gt(0.0), validators.le(1.0)])
    gan: Literal["least-squares", "hinge"] = "least-squares"
    gan_3d: float = at_least(0.0, 1e-2)
    gan_2d: float = at_least(0.0, 0.0)  # of three random slices as one image
    feature_matching: float = at_least(0.0, 0.0)
    adaptive: bool = False  # scale the GAN terms by the ratio of gradient norms at the last decoder layer


@frozen
class AutoencoderKl:
    """[codec] use = "autoencoder-kl"."""

    stride: tuple[int, int, int] = field(default=(4, 4, 4), validator=check_stride)  # D, H, W
    width: int = positive(64, metadata={"smoke": 4})
    # width x multiplier = channels of a level, finest first: one more than the stride has halvings
    multipliers: tuple[float, ...] = field(default=(1.0, 1.0, 1.0), validator=check_multipliers)
    blocks: int = positive(2, metadata={"smoke": 1})  # residual blocks a level
    # levels with attention after each residual block: 0 is the finest, -1 the coarsest; () = none
    attention: tuple[int, ...] = field(default=(-1,), metadata={"smoke": ()})
    # residual block, attention, residual block around the latent
    middle: bool = field(default=True, metadata={"smoke": False})
    upsample: Literal["nearest", "linear"] = "nearest"  # before the convolution that follows it
    norm_groups: int = positive(32)  # at most; lowered to a divisor of the channels
    latent_channels: int = positive(3)
    losses: KlLossOptions = Factory(KlLossOptions)
    discriminator: DiscriminatorOptions = Factory(DiscriminatorOptions)
    fit: FitOptions = Factory(lambda: FitOptions(steps=100_000, batch=2, optimizer="adam", lr=1e-4, precision="bf16"))

    def __attrs_post_init__(self) -> None:
        need = max(self.stride).bit_length()
        if len(self.multipliers) != need:
            raise ValueError(
                f"multipliers {list(self.multipliers)}: stride {list(self.stride)} has {need} levels, "
                "one multiplier each"
            )
        wrong = [level for level in self.attention if not -need <= level < need]
        if wrong:
            raise ValueError(
                f"attention {list(self.attention)}: there are {need} levels, 0 .. {need - 1} or -{need} .. -1"
            )
        if self.losses.feature_matching and not (self.losses.gan_2d or self.losses.gan_3d):
            raise ValueError("losses.feature_matching has no effect without losses.gan_2d or losses.gan_3d")

    @property
    def channels(self) -> list[int]:
        """Channels of each level, finest first."""
        return [max(1, round(self.width * m)) for m in self.multipliers]

    def attends(self, level: int) -> bool:
        """Whether `level` (0 = finest) has attention."""
        return level in self.attention or level - len(self.multipliers) in self.attention
