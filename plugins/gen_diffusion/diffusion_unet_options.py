"""Settings of the prior `diffusion-unet`; the defaults are the published lung-CT system."""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, field, frozen, validators

from gen_core.options import FitOptions, positive

# Adam, and 1500 epochs of some 960 volumes, are published; batch and learning rate are not.
PUBLISHED_FIT = FitOptions(steps=360_000, batch=4, optimizer="adam", lr=1e-4)


def _channels(instance: DiffusionUnet, attribute: Attribute, value: tuple[int, ...]) -> None:
    groups = instance.norm_groups
    if not value or any(c < 1 or c % groups for c in value):
        raise ValueError(f"'{attribute.name}' must be multiples of norm_groups = {groups}, got {list(value)}")


def _levels(instance: DiffusionUnet, attribute: Attribute, value: tuple[bool, ...]) -> None:
    if len(value) != len(instance.channels):
        raise ValueError(
            f"'{attribute.name}' must say true or false for each of {len(instance.channels)} levels, got {len(value)}"
        )


def _heads(instance: DiffusionUnet, attribute: Attribute, value: int) -> None:
    attentive = {c for c, on in zip(instance.channels, instance.attention) if on} | {instance.channels[-1]}
    wrong = sorted(c for c in attentive if value < 1 or c % value)
    if wrong:
        raise ValueError(f"'{attribute.name}' = {value} must divide the channels where there is attention: {wrong}")


@frozen
class DiffusionUnet:
    """[prior] use = "diffusion-unet": the U-Net of latent diffusion, attention by level, as a discrete-time DDPM."""

    norm_groups: int = positive(32, metadata={"smoke": 8})  # of every GroupNorm
    channels: tuple[int, ...] = field(default=(64, 64, 64), validator=_channels, metadata={"smoke": (8, 8, 8)})
    attention: tuple[bool, ...] = field(
        default=(False, True, True), validator=_levels, metadata={"smoke": (False, False, True)}
    )  # by level; the middle always has it
    head_channels: int = field(default=64, validator=_heads, metadata={"smoke": 8})
    blocks: int = positive(2)  # residual blocks a level; one more on the way up
    transformer_layers: int = positive(1)  # in each transformer of cross-attention
    down_axes: Literal["DHW", "HW"] = "DHW"  # halved between levels; axes of one voxel never are

    steps: int = field(default=1000, validator=validators.ge(2))  # T
    schedule: Literal["cosine", "scaled-linear", "linear"] = "scaled-linear"
    s: float = positive(0.008)  # offset of the cosine schedule
    clip: float = field(default=0.9999, validator=[validators.gt(0.0), validators.lt(1.0)])  # largest beta, cosine
    beta_start: float = field(default=0.0015, validator=[validators.gt(0.0), validators.lt(1.0)])  # not cosine
    beta_end: float = field(default=0.0195, validator=[validators.gt(0.0), validators.lt(1.0)])  # not cosine

    predict: Literal["eps", "x0", "v"] = "eps"
    loss: Literal["l1", "l2"] = "l2"
    min_snr_gamma: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = off; Hang et al. 2023 use 5

    # Classes and scalars: "added" to the embedding of time, or tokens for cross-attention, where transformers take
    # the place of self-attention. Masks and volumes are concatenated to z_t.
    embed: Literal["added", "cross-attention"] = "added"
    context_dim: int = positive(64)  # width of a condition's token; cross-attention only
    # of the training samples told nothing: what guidance needs
    drop_condition: float = field(default=0.1, validator=[validators.ge(0.0), validators.le(1.0)])

    fit: FitOptions = PUBLISHED_FIT
