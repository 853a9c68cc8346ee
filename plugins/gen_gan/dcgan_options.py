"""Settings of the prior `dcgan`; the defaults are the published ones."""

from __future__ import annotations

from attrs import field, frozen, validators

from gen_core.options import FitOptions, positive

# Adam 2e-4 (0.5, 0.999) and batches of 128 are published; the number of steps depends on the data.
PUBLISHED_FIT = FitOptions(steps=50_000, batch=128, optimizer="adam", lr=2e-4, betas=(0.5, 0.999))


@frozen
class Dcgan:
    """[prior] use = "dcgan": strided convolutions with batch norm, on latents one slice deep.

    Sizes as of stylegan2-ada.
    """

    z_dim: int = positive(100, metadata={"smoke": 8})
    width: int = positive(64, metadata={"smoke": 4})  # maps at half the full size, doubled at every halving
    width_max: int = positive(512, metadata={"smoke": 8})
    told_dim: int = positive(64, metadata={"smoke": 8})  # width of what is told; with conditions only
    r1_gamma: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = off, as published
    r1_every: int = positive(16)
    drop_condition: float = field(default=0.1, validator=[validators.ge(0.0), validators.le(1.0)])
    fit: FitOptions = PUBLISHED_FIT
