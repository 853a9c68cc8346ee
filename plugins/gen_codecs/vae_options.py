"""Settings of the codec `vae`; attrs only, so that a recipe resolves without torch.

Source: Kingma & Welling 2014; Higgins et al. 2017 (beta); Kingma et al. 2016 (free bits); Sonderby et al. 2016
(warm-up).
"""

from __future__ import annotations

from typing import Literal

from attrs import Factory, field, frozen, validators

from gen_codecs.vq_options import at_least, check_multipliers, check_stride
from gen_core.options import FitOptions, positive


@frozen
class VaeLossOptions:
    """[codec.losses]: the squared error summed over voxels, plus beta times the divergence summed over the latent."""

    beta: float = at_least(0.0, 1.0)
    warmup: int = field(
        default=0, validator=validators.ge(0), metadata={"smoke": 0}
    )  # steps in which beta rises from 0
    free_bits: float = at_least(0.0, 0.0)  # nats of each latent channel, mean over the batch, that cost nothing


@frozen
class Vae:
    """[codec] use = "vae"."""

    latent: Literal["flat", "spatial"] = "flat"  # one vector a volume, or maps of size / stride
    latent_channels: int = positive(128)  # length of the vector, or number of maps
    stride: tuple[int, int, int] = field(default=(8, 8, 8), validator=check_stride)  # D, H, W, of the last maps
    width: int = positive(32, metadata={"smoke": 4})
    multipliers: tuple[float, ...] = field(default=(), validator=check_multipliers)
    # width x multiplier = channels of a level, one a halving; () = 2, 4, 8, ...
    blocks_encoder: int = at_least(0, 1)  # residual blocks a level
    blocks_decoder: int = at_least(0, 1)
    resample: Literal["conv", "shuffle"] = "conv"  # strided (transposed) convolutions, or space to depth
    padding: Literal["replicate", "zeros"] = "zeros"
    norm: Literal["group", "batch", "instance"] = "group"
    norm_groups: int = positive(32)  # at most; lowered to a divisor of the channels
    # What makes the latents that priors see of unit scale, channel by channel: the spread of all posteriors together
    # (then a standard normal is drawn as widely as the decoder was trained), that of their means, or nothing.
    latent_scaling: Literal["posterior", "mean", "none"] = "posterior"
    losses: VaeLossOptions = Factory(VaeLossOptions)
    fit: FitOptions = Factory(lambda: FitOptions(steps=50_000, batch=32, optimizer="adam", lr=3e-4))

    levels = 0  # each halves what is left

    def __attrs_post_init__(self) -> None:
        halvings = max(self.stride).bit_length() - 1
        if self.multipliers and len(self.multipliers) != halvings:
            raise ValueError(f"multipliers {list(self.multipliers)}: one for each of the {halvings} levels")
