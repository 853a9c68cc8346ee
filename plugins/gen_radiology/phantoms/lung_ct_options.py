"""Settings of the dataset `lung-ct-phantom`; attrs only, so that a recipe resolves without numpy."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

_share = [validators.ge(0.0), validators.le(1.0)]
_positive3 = validators.deep_iterable(validators.gt(0.0))


@frozen
class LungCtPhantom:
    """[dataset] use = "lung-ct-phantom": synthetic chests; the size comes from [volume], splits from [split]."""

    subjects: int = field(default=400, validator=validators.ge(1))  # over all splits
    seed: int = field(default=0, validator=validators.ge(0))  # with the subject's number it decides everything
    # Field of view (D, H, W) in mm, or the distance of voxels where `spacing_mm` is given. Slices are never thicker
    # than `slice_mm`: few of them are a slab of the chest, one is a slice of it.
    fov_mm: tuple[float, float, float] = field(default=(300.0, 384.0, 384.0), validator=_positive3)
    spacing_mm: tuple[float, float, float] | None = field(default=None, validator=validators.optional(_positive3))
    slice_mm: float = field(default=10.0, validator=validators.gt(0.0))
    nodules: float = field(default=0.6, validator=_share)  # share of subjects that have one
    kinds: tuple[Literal["solid", "part-solid", "ground-glass"], ...] = ("solid", "part-solid", "ground-glass")
    # A nodule is at least so large; None: 2.5 voxels, so that it can be seen. At most 30 mm, beyond which it is a mass.
    min_diameter_mm: float | None = field(default=None, validator=validators.optional(validators.gt(0.0)))
    pleural: float = field(default=0.25, validator=_share)  # share of nodules that touch the pleura
    noise_hu: float = field(default=14.0, validator=[validators.ge(0.0), validators.le(500.0)])  # sd in the chest
    table: bool = True
    lo: float = -1000.0  # HU that become -1 and +1; what lies beyond is clipped
    hi: float = 1000.0
    augment: tuple[Literal["flip"], ...] = ()  # "flip" mirrors left and right: the heart changes sides
    # Splits larger than this (as float32) are not stored: their volumes are rendered at each access.
    cache_gib: float = field(default=4.0, validator=validators.ge(0.0))
    workers: int = field(default=2, validator=[validators.ge(1), validators.le(64)])  # processes that fill the cache
