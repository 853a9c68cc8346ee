"""Settings of the masked autoencoder; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions, positive, train_on
from gen_features.view_options import ViewOptions


def _masked_fit() -> FitOptions:
    return FitOptions(
        steps=2000,
        batch=32,
        lr=1e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        schedule="cosine",
        warmup=100,
        clip=1.0,
        checkpoint_every=200,
        validate_every=500,
        log_every=20,
    )


def _mild_views() -> ViewOptions:
    # hiding most of the image is the augmentation: He et al. 2022, table 1e
    return ViewOptions(rotate=0.0, gain=0.1, offset=0.1, tilt=0.0, blur=0.0, noise=0.0, cutout=0.0)


def _whole_heads(options: Any, attribute: Any, value: int) -> None:
    if value % (4 * options.heads):
        raise ValueError(f"{attribute.name} = {value} must be a multiple of 4 x heads = {4 * options.heads}")


@frozen
class MaeVit:
    """[features] mae-vit: a small vision transformer that completes volumes of which it sees a quarter."""

    planes: Literal["bands"] = "bands"  # the volume's bands are the channels of a patch
    train_on: str = train_on()
    fit: FitOptions = Factory(_masked_fit)
    patch: int = positive(8)  # pixels a side
    mask: float = field(default=0.75, validator=[validators.gt(0.0), validators.lt(1.0)])  # share of hidden patches
    heads: int = positive(4, metadata={"smoke": 1})
    width: int = field(default=192, validator=_whole_heads, metadata={"smoke": 16})  # features a token
    depth: int = positive(6, metadata={"smoke": 1})
    decoder_width: int = field(default=96, validator=_whole_heads, metadata={"smoke": 16})
    decoder_depth: int = positive(2, metadata={"smoke": 1})
    views: ViewOptions = Factory(_mild_views)
