"""Settings of the dataset `retina-phantom`; attrs only, so that a recipe resolves without numpy."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators


@frozen
class RetinaPhantom:
    """[dataset] use = "retina-phantom": synthetic eyes; sizes and bands come from [volume], splits from [split]."""

    subjects: int = field(default=640, validator=validators.ge(1))  # eyes, over all splits
    volumes_per_subject: int = field(default=1, validator=validators.ge(1))  # visits: other light and noise
    seed: int = field(default=0, validator=validators.ge(0))  # with the subject's number it decides everything
    fov_mm: float = field(default=11.5, validator=[validators.ge(4.0), validators.le(14.0)])  # of the shorter side
    # Calibre of vessels against anatomy: about 1 from 224 pixels on; at 64 pixels (0.18 mm each) true vessels
    # would vanish, 2.3 keeps them.
    vessel_scale: float = field(default=2.3, validator=[validators.ge(0.5), validators.le(4.0)])
    noise: float = field(default=1.0, validator=[validators.ge(0.0), validators.le(20.0)])  # x shot and read noise
    # Label: the share of eyes with deposits beside vessels. They absorb `deposit_strength` of the light at 450 nm where
    # they are densest, some 6 % of the picture there; a haze that differs by `deposit_spread` (sd) between all eyes of
    # such a data set bounds what anyone can tell.
    deposits: float = field(default=0.0, validator=[validators.ge(0.0), validators.le(1.0)])
    deposit_strength: float = field(default=0.15, validator=[validators.ge(0.0), validators.le(0.5)])
    deposit_spread: float = field(default=0.075, validator=[validators.ge(0.0), validators.le(0.5)])
    # Views of training volumes: "flip" mirrors left and right, which makes the other eye.
    augment: tuple[Literal["flip"], ...] = ("flip",)
    # Splits larger than this (as float32) are not stored: their volumes are rendered at each access.
    cache_gib: float = field(default=4.0, validator=validators.ge(0.0))
    workers: int = field(default=2, validator=[validators.ge(1), validators.le(64)])  # processes that fill the cache
