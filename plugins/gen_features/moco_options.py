"""Settings of the Momentum Contrast networks; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions, positive, train_on
from gen_features.view_options import ViewOptions


def _contrastive_fit() -> FitOptions:
    return FitOptions(
        steps=2000,
        batch=32,
        lr=1e-3,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=50,
        clip=1.0,
        checkpoint_every=200,
        validate_every=500,
        log_every=20,
    )


def _room_for_a_batch(options: Any, attribute: Any, value: int) -> None:
    if value < options.fit.batch:
        raise ValueError(f"queue = {value} cannot hold one batch of fit.batch = {options.fit.batch}")


def _groups_can_be_shuffled(options: Any, attribute: Any, value: int) -> None:
    micro = options.fit.batch // options.fit.accumulate
    if options.norm == "shuffled-batch" and not 2 <= value <= micro // 2:
        raise ValueError(
            f"norm_groups_of = {value}: shuffling needs at least two groups of 2 samples or more in each micro-batch "
            f"of {micro}; at most {micro // 2} fits, or use norm = 'group'"
        )


@frozen
class Moco:
    """What `moco-resnet18` and `moco-resnet50` have in common: MoCo v2 with the published numbers where they scale."""

    # "bands": the volume's bands are the channels. "triplets": three bands in falling wavelength, seen as RGB.
    planes: Literal["bands", "triplets"] = "bands"
    train_on: str = train_on()
    fit: FitOptions = Factory(_contrastive_fit)
    width: int = positive(64, metadata={"smoke": 8})  # channels of the first stage
    stem: Literal["small", "medium", "large"] = "medium"  # for images of about 32, 64 and 224 pixels
    # Both keep what a batch shares out of the comparison of its two views.
    norm: Literal["group", "shuffled-batch"] = field(default="group", metadata={"smoke": "group"})
    norm_groups_of: int = field(default=8, validator=_groups_can_be_shuffled)  # samples that share batch statistics
    queue: int = field(default=4096, validator=[validators.gt(0), _room_for_a_batch])  # keys kept as negatives
    embedding: int = positive(128, metadata={"smoke": 16})  # numbers that are compared
    temperature: float = positive(0.2)
    momentum: float = field(default=0.999, validator=[validators.ge(0.0), validators.lt(1.0)])  # of the key encoder
    scale_momentum: bool = True  # at most 1 - 10 / steps: in a short run the keys would stay random for ever
    views: ViewOptions = Factory(ViewOptions)


@frozen
class MocoResnet18(Moco):
    """[features] moco-resnet18: 18 layers, 512 features at width 64."""


@frozen
class MocoResnet50(Moco):
    """[features] moco-resnet50: 50 layers, 2048 features at width 64."""

    stem: Literal["small", "medium", "large"] = "large"
