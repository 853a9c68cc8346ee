"""Settings of the prior `ddpm++`; the defaults are the continuous VP model of its paper."""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, field, frozen, validators

from gen_core.options import FitOptions, positive

# As published for CIFAR-10, 32 x 32 (Song et al. 2021, appendix H).
PUBLISHED_FIT = FitOptions(
    steps=1_300_000, batch=128, optimizer="adam", lr=2e-4, warmup=5000, clip=1.0, ema=0.9999
)  # fmt: skip

SIGMAS = ((0.01, 50.0), (0.002, 80.0))  # of the VE path (Song et al. 2021), of EDM (Karras et al. 2022)


def _base(instance: object, attribute: Attribute, value: int) -> None:
    if value < 8 or value % 4:
        raise ValueError(f"'{attribute.name}' must be a multiple of 4 and at least 8 (GroupNorm), got {value}")


def _multipliers(instance: object, attribute: Attribute, value: tuple[int, ...]) -> None:
    if not value or any(m < 1 for m in value):
        raise ValueError(f"'{attribute.name}' must hold at least one integer >= 1, got {list(value)}")


def _levels(instance: Ddpmpp, attribute: Attribute, value: tuple[bool, ...]) -> None:
    if len(value) != len(instance.multipliers):
        raise ValueError(
            f"'{attribute.name}' must say true or false for each of {len(instance.multipliers)} levels, "
            f"got {len(value)}"
        )


def _heads(instance: Ddpmpp, attribute: Attribute, value: int) -> None:
    attentive = {m for m, on in zip(instance.multipliers, instance.attention) if on} | {instance.multipliers[-1]}
    wrong = sorted(instance.base * m for m in attentive if value and instance.base * m % value)
    if value < 0 or wrong:
        raise ValueError(f"'{attribute.name}' = {value} must divide the channels where there is attention: {wrong}")


@frozen
class Ddpmpp:
    """[prior] use = "ddpm++": the score network DDPM++ in continuous time, on one of four noise paths."""

    # The network. channels of level i = base x multipliers[i]; axes of one voxel are never halved.
    base: int = field(default=128, validator=_base, metadata={"smoke": 8})
    multipliers: tuple[int, ...] = field(default=(1, 2, 2, 2), validator=_multipliers)
    attention: tuple[bool, ...] = field(
        default=(False, False, False, True), validator=_levels
    )  # the middle always has it
    head_channels: int = field(default=0, validator=_heads, metadata={"smoke": 0})  # 0 = one head
    blocks: int = positive(4, metadata={"smoke": 1})  # residual blocks a level; one more on the way up
    norm_groups: int = positive(32)  # of every GroupNorm, at most; a group has at least 4 channels
    dropout: float = field(default=0.1, validator=[validators.ge(0.0), validators.lt(1.0)])
    block: Literal["biggan", "ddpm"] = "biggan"  # who resizes: residual blocks, or a convolution between levels
    resample: Literal["average", "fir"] = "average"  # how: averages and repeats, or a smoothing kernel
    progressive_input: Literal["none", "residual"] = "none"  # shrunken inputs added at every level on the way down
    rescale: bool = True  # every sum of two branches divided by sqrt 2
    time: Literal["positional", "fourier"] = "positional"
    fourier_scale: float = positive(16.0)  # sd of the random frequencies
    down_axes: Literal["DHW", "HW"] = "DHW"  # halved between levels

    # The path from data to noise, and what the network says of it.
    path: Literal["vp", "sub-vp", "ve", "edm", "rectified-flow"] = "vp"
    beta_min: float = positive(0.1)  # vp, sub-vp
    beta_max: float = positive(20.0)
    sigma_min: float | None = None  # ve, edm; none = 0.01 (ve), 0.002 (edm)
    sigma_max: float | None = None  # ve, edm; none = 50 (ve), 80 (edm)
    # times that samplers walk along; "auto": even powers of the noise level for edm, else uniform
    spacing: Literal["auto", "uniform", "edm", "log-snr"] = "auto"
    predict: Literal["eps", "score", "velocity", "edm"] = "eps"
    sigma_data: float = positive(0.5)  # edm: standard deviation of the latents

    # Training. times: "uniform" in t; "log-snr": uniform in log-SNR; "logit-normal" t; "log-normal" sigma / alpha;
    # "auto" is uniform for eps and score, logit-normal for velocity, log-normal for edm.
    times: Literal["auto", "uniform", "log-snr", "logit-normal", "log-normal"] = "auto"
    times_mean: float | None = None  # of logit-normal (0) and log-normal (-1.2); none = the number in brackets
    times_sd: float | None = None  # likewise: 1 and 1.2
    smallest_t: float = field(default=1e-5, validator=[validators.gt(0.0), validators.lt(0.5)])
    # "simple": the error of eps, velocity or the preconditioned network; "likelihood": g^2 / sigma^2 of that of eps
    weighting: Literal["simple", "likelihood"] = "simple"

    # Classes and scalars: "added" to the embedding of time, or tokens for cross-attention where there is attention.
    # Masks and volumes are concatenated to z_t.
    embed: Literal["added", "cross-attention"] = "added"
    context_dim: int = positive(128)  # width of a condition's token; cross-attention only
    # of the training samples told nothing: what guidance needs
    drop_condition: float = field(default=0.1, validator=[validators.ge(0.0), validators.le(1.0)])

    fit: FitOptions = PUBLISHED_FIT

    def __attrs_post_init__(self) -> None:
        if self.path == "rectified-flow" and self.predict not in ("velocity", "edm"):
            raise ValueError("predict: path = 'rectified-flow' needs 'velocity' or 'edm'; at t = 1 eps tells nothing")
        if self.path != "rectified-flow" and self.predict == "velocity":
            raise ValueError("predict: 'velocity' goes with path = 'rectified-flow'")
        if self.weighting == "likelihood" and self.times not in ("uniform", "log-snr"):
            raise ValueError("times: weighting = 'likelihood' needs 'uniform' or 'log-snr' (which spreads less)")
        if self.beta_min > self.beta_max:
            raise ValueError(f"beta_max: must be at least beta_min = {self.beta_min:g}")
        low, high = self.sigma_ends
        if not 0 < low < high:
            raise ValueError(f"sigma_max: {high:g} must be above sigma_min = {low:g} > 0")
        if self.times_sd is not None and self.times_sd <= 0:
            raise ValueError(f"times_sd: must be above 0, got {self.times_sd:g}")

    @property
    def sigma_ends(self) -> tuple[float, float]:
        """sigma_min and sigma_max of a path of growing noise."""
        low, high = SIGMAS[self.path == "edm"]
        return (
            self.sigma_min if self.sigma_min is not None else low,
            self.sigma_max if self.sigma_max is not None else high,
        )
