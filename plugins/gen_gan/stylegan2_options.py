"""Settings of the prior `stylegan2-ada`; the defaults are those published for images of up to 256 pixels."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

from gen_core.options import FitOptions, positive

# Adam 0.0025 (0, 0.99) and 25 million images are published; the average's half-life is 10 000 images.
PUBLISHED_FIT = FitOptions(steps=780_000, batch=32, optimizer="adam", lr=2.5e-3, betas=(0.0, 0.99), ema=0.998)

_share = [validators.ge(0.0), validators.le(1.0)]
_from_zero = validators.ge(0)


@frozen
class AugmentOptions:
    """[prior.augment]: what the discriminator is shown. p is the share of samples that each change befalls."""

    kinds: tuple[Literal["blit", "geometric", "colour", "filter", "noise", "cutout"], ...] = (
        "blit", "geometric", "colour",
    )  # fmt: skip
    target: float = field(default=0.6, validator=_share)  # of the mean sign of real logits; 0 keeps p at `start`
    start: float = field(default=0.0, validator=_share)
    most: float = field(default=0.8, validator=_share)  # changes that nearly always happen would be imitated
    images: int = positive(500_000)  # real samples that take p from 0 to 1
    every: int = positive(4)  # steps between two adaptations


@frozen
class Stylegan2Ada:
    """[prior] use = "stylegan2-ada": StyleGAN2 on latents one slice deep, with adaptive augmentation.

    Sizes: k * 2^n, n at least 1, where halving stops below sides of 8; the rest must not exceed 16: 8, 16, 24, 28, 32,
    40, 48, 64, 96, 128, 256, ...; H and W may differ.
    """

    z_dim: int = positive(512, metadata={"smoke": 8})
    w_dim: int = positive(512, metadata={"smoke": 8})
    mapping_layers: int = positive(8, metadata={"smoke": 2})
    mapping_lr: float = positive(0.01)  # of the mapping network, as a share of the others'
    told_dim: int = positive(512, metadata={"smoke": 8})  # width of what is told; with conditions only
    channel_base: int = positive(16384, metadata={"smoke": 64})  # maps at a side of r pixels: channel_base / r,
    channel_max: int = positive(512, metadata={"smoke": 8})  # but no more than this
    minibatch_group: int = positive(4)  # samples whose deviation the discriminator sees together

    style_mixing: float = field(default=0.9, validator=_share)  # share of samples made of two styles
    # gamma of R1; none = 0.0002 H W / batch, the heuristic published with adaptive augmentation
    r1_gamma: float | None = field(default=None, validator=validators.optional(_from_zero))
    r1_every: int = positive(16)
    path_length: float = field(default=2.0, validator=_from_zero)  # its weight; 0 = off
    path_length_every: int = positive(4)
    path_length_shrink: int = positive(2)  # it sees a batch smaller by this
    path_length_decay: float = field(default=0.01, validator=_share)  # of the running mean
    w_average: float = field(default=0.995, validator=_share)  # decay of the mean style, for truncation
    drop_condition: float = field(default=0.1, validator=_share)  # of samples told nothing: what "unknown" draws

    augment: AugmentOptions = AugmentOptions()
    fit: FitOptions = PUBLISHED_FIT
