"""Settings of MONAI's diffusion U-Nets as priors; attrs only, so that a recipe is checked without torch or MONAI."""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, Factory, field, frozen, validators

from gen_core.options import FitOptions, positive


def _fit() -> FitOptions:
    return FitOptions(steps=100_000, batch=4, optimizer="adam", lr=1e-4)


def _channels(instance: _Unet, attribute: Attribute, value: tuple[int, ...]) -> None:
    groups = instance.norm_groups
    if not value or any(c < 1 or c % groups for c in value):
        raise ValueError(f"'{attribute.name}' must be multiples of norm_groups = {groups}, got {list(value)}")


def _levels(instance: _Unet, attribute: Attribute, value: tuple[bool, ...]) -> None:
    if len(value) != len(instance.channels):
        raise ValueError(
            f"'{attribute.name}' must say true or false for each of {len(instance.channels)} levels, got {len(value)}"
        )


def _heads(instance: _Unet, attribute: Attribute, value: int) -> None:
    attentive = {c for c, on in zip(instance.channels, instance.attention) if on} | {instance.channels[-1]}
    wrong = sorted(c for c in attentive if value < 1 or c % value)
    if wrong:
        raise ValueError(f"'{attribute.name}' = {value} must divide the channels where there is attention: {wrong}")


def _share(default: float) -> float:
    return field(default=default, validator=[validators.gt(0.0), validators.lt(1.0)])


@frozen
class _Unet:
    """What both share: sizes, the noise schedule, and where weights come from."""

    norm_groups: int = positive(32, metadata={"smoke": 8})
    channels: tuple[int, ...] = field(default=(64, 64, 64), validator=_channels, metadata={"smoke": (8, 8)})
    attention: tuple[bool, ...] = field(
        default=(False, True, True), validator=_levels, metadata={"smoke": (False, True)}
    )  # by level; the middle always has it
    head_channels: int = field(default=64, validator=_heads, metadata={"smoke": 8})
    blocks: int = positive(2)  # residual blocks a level
    resblock_updown: bool = False  # change resolution inside residual blocks
    include_fc: bool = True  # an output projection in attention
    combined_linear: bool = False  # one linear layer for query, key and value
    # the same numbers up to rounding; without it 32^3 positions need 4 GiB a head
    flash_attention: bool = True
    # axes the network sees: ours (z, y, x), or (x, y, z) with x to the right and y to the front, as MONAI's loaders
    # give them
    orientation: Literal["zyx", "ras"] = "zyx"
    weights: str = field(default="", metadata={"smoke": ""})  # safetensors, .pt or .pth file to start from
    weights_sha256: str = field(default="", metadata={"smoke": ""})  # what that file must hash to
    weights_entry: str = field(default="", metadata={"smoke": ""})  # which of a checkpoint's state dicts

    steps: int = field(default=1000, validator=validators.ge(2))  # T
    schedule: Literal["cosine", "scaled-linear", "linear"] = "scaled-linear"
    s: float = positive(0.008)  # offset of the cosine schedule
    clip: float = _share(0.9999)  # largest beta, cosine
    beta_start: float = _share(0.0015)  # not cosine
    beta_end: float = _share(0.0195)  # not cosine
    predict: Literal["eps", "x0", "v"] = "eps"
    loss: Literal["l1", "l2"] = "l2"
    min_snr_gamma: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = off; Hang et al. 2023 use 5
    # of the training samples told nothing: what guidance needs
    drop_condition: float = field(default=0.1, validator=[validators.ge(0.0), validators.le(1.0)])


@frozen
class MonaiDiffusionUnet(_Unet):
    """[prior] use = "monai-diffusion-unet"; the defaults are the published lung-CT prior.

    One class becomes MONAI's class label, scalars its context for cross-attention; masks and volumes are concatenated.
    """

    transformer_layers: int = positive(1)  # of cross-attention, where scalars are declared
    fit: FitOptions = Factory(_fit)


@frozen
class MaisiDiffusionUnet(_Unet):
    """[prior] use = "maisi-diffusion-unet"; the defaults are the sizes and conventions of the published DDPM weights.

    One class becomes MAISI's class label; masks and volumes are concatenated.
    """

    channels: tuple[int, ...] = field(default=(64, 128, 256, 512), validator=_channels, metadata={"smoke": (8, 8)})
    attention: tuple[bool, ...] = field(
        default=(False, False, True, True), validator=_levels, metadata={"smoke": (False, True)}
    )
    head_channels: int = field(default=32, validator=_heads, metadata={"smoke": 8})
    include_fc: bool = False
    orientation: Literal["zyx", "ras"] = "ras"
    # Names of three scalars in mm, along z, y, x: MAISI's spacing input.
    spacing: tuple[str, ...] = ()
    # Names of two classes, first and last body region in the volume: MAISI's top and bottom region (of four: head and
    # neck, chest, abdomen, pelvis and below).
    regions: tuple[str, ...] = ()
    fit: FitOptions = Factory(_fit)

    def __attrs_post_init__(self) -> None:
        if len(self.spacing) not in (0, 3):
            raise ValueError(f"spacing: three conditions, along z, y and x, got {list(self.spacing)}")
        if len(self.regions) not in (0, 2):
            raise ValueError(f"regions: two conditions, top and bottom, got {list(self.regions)}")
