"""Settings of the dataset `brain-mri-phantom`; attrs only, so that a recipe resolves without numpy."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

_share = [validators.ge(0.0), validators.le(1.0)]
_positive = validators.gt(0.0)
_positive3 = validators.deep_iterable(_positive)


def _time() -> float | None:
    return field(default=None, validator=validators.optional(_positive))


@frozen
class BrainMriPhantom:
    """[dataset] use = "brain-mri-phantom": synthetic heads; the size comes from [volume], splits from [split]."""

    subjects: int = field(default=400, validator=validators.ge(1))  # over all splits
    seed: int = field(default=0, validator=validators.ge(0))  # with the subject's number it decides everything
    # "t1" is a spoiled gradient echo (TR 18, TE 10, flip 30), "t2" and "pd" spin echoes (TR 3300, TE 120 and 35).
    contrast: Literal["t1", "t2", "pd"] = "t1"
    tr_ms: float | None = _time()  # None: that of the contrast
    te_ms: float | None = _time()
    flip_deg: float | None = field(
        default=None, validator=validators.optional([_positive, validators.le(180.0)])
    )  # of "t1" only
    # Field of view (D, H, W) in mm, or the distance of voxels where `spacing_mm` is given. Slices are never thicker
    # than `slice_mm`: few of them are a slab of the head, one is a slice of it.
    fov_mm: tuple[float, float, float] = field(default=(160.0, 224.0, 224.0), validator=_positive3)
    spacing_mm: tuple[float, float, float] | None = field(default=None, validator=validators.optional(_positive3))
    slice_mm: float = field(default=6.0, validator=_positive)
    lesions: float = field(default=0.5, validator=_share)  # share of subjects that have any
    lesions_max: int = field(default=4, validator=validators.ge(1))  # in one subject, all in one hemisphere
    lesion_mm: tuple[float, float] = field(default=(7.0, 28.0), validator=_positive3)  # smallest and largest diameter
    bias: float = field(default=0.10, validator=[validators.ge(0.0), validators.le(0.5)])  # sd of the coil's shading
    noise: float = field(default=0.03, validator=_share)  # sd in a channel, as a share of white matter's signal
    lo: float = 0.0  # intensity that becomes -1; white matter of "t1" has about 70
    hi: float | None = None  # and +1; None: a tenth above the brightest tissue
    augment: tuple[Literal["flip"], ...] = ("flip",)  # mirror left and right
    # Splits larger than this (as float32) are not stored: their volumes are rendered at each access.
    cache_gib: float = field(default=4.0, validator=validators.ge(0.0))
    workers: int = field(default=2, validator=[validators.ge(1), validators.le(64)])  # processes that fill the cache
