"""Settings of the prior `ddpm3d`; the defaults are the published hyperspectral system (base 512)."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from gen_core.options import FitOptions, positive

PUBLISHED_FIT = FitOptions(steps=100_000, batch=10, optimizer="adam", lr=1e-4, ema=0.995, ema_every=10, ema_start=2000)
NORM_GROUPS = 8  # of every GroupNorm in the U-Net


def _multiple_of_groups(instance: object, attribute: Attribute, value: int) -> None:
    if value < NORM_GROUPS or value % NORM_GROUPS:
        raise ValueError(f"'{attribute.name}' must be a positive multiple of {NORM_GROUPS} (GroupNorm), got {value}")


def _even(instance: object, attribute: Attribute, value: int) -> None:
    if value < 2 or value % 2:
        raise ValueError(f"'{attribute.name}' must be even and at least 2 (rotary pairs), got {value}")


def _multipliers(instance: object, attribute: Attribute, value: tuple[int, ...]) -> None:
    if not value or any(m < 1 for m in value):
        raise ValueError(f"'{attribute.name}' must hold at least one integer >= 1, got {list(value)}")


def share(default: float) -> Any:
    """An attrs field in 0..1."""
    return field(default=default, validator=[validators.ge(0.0), validators.le(1.0)])


@frozen
class Ddpm3d:
    """[prior] use = "ddpm3d": a discrete-time DDPM over latents with a space- and depth-attentive 3-D U-Net."""

    base: int = field(default=512, validator=_multiple_of_groups, metadata={"smoke": 16})  # channels at full resolution
    multipliers: tuple[int, ...] = field(default=(1, 2, 4), validator=_multipliers)  # of base, one a level
    # "levels": linear attention over space and attention over depth at every level, full attention in the
    # middle; "middle": only the latter; "none": convolutions alone.
    attention: Literal["levels", "middle", "none"] = "levels"
    heads: int = positive(8)
    head_dim: int = field(default=32, validator=_even)
    # Absolute in-plane position, added after the first convolution: small nets see too little of the plane.
    position_embedding: Literal["none", "fixed", "learned"] = "none"
    dropout: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(1.0)])

    steps: int = field(default=300, validator=validators.ge(2))  # T
    schedule: Literal["cosine", "scaled-linear", "linear"] = "cosine"
    s: float = positive(0.008)  # offset of the cosine schedule
    clip: float = field(default=0.9999, validator=[validators.gt(0.0), validators.lt(1.0)])  # largest beta
    beta_start: float = field(default=0.0015, validator=[validators.gt(0.0), validators.lt(1.0)])  # not cosine
    beta_end: float = field(default=0.0195, validator=[validators.gt(0.0), validators.lt(1.0)])  # not cosine

    predict: Literal["eps", "x0", "v"] = "eps"
    loss: Literal["l1", "l2"] = "l1"
    min_snr_gamma: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = off; Hang et al. 2023 use 5

    # Classes and scalars: "added" to the embedding of time, or tokens for cross-attention where there is attention.
    # Masks and volumes are concatenated to z_t.
    embed: Literal["added", "cross-attention"] = "added"
    context_dim: int = positive(256)  # width of a condition's token; cross-attention only
    drop_condition: float = share(0.1)  # of the training samples told nothing: what guidance needs

    fit: FitOptions = PUBLISHED_FIT
