"""Settings of the W-Net segmenter; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions, positive


def _vein_artery_disc() -> dict[str, tuple[str, ...]]:
    return {"vein": ("vein",), "artery": ("artery",), "onh": ("onh",)}


def _wnet_fit() -> FitOptions:
    return FitOptions(
        steps=600,
        batch=4,
        lr=1e-2,
        schedule="cosine",
        warmup=20,
        clip=1.0,
        checkpoint_every=200,
        log_every=20,
    )


def _two_levels(instance: Any, attribute: Any, value: tuple[int, ...]) -> None:
    if len(value) < 2 or min(value) < 1:
        raise ValueError(f"'{attribute.name}' must be channels of at least two levels, got {list(value)}")


def _odd_or_off(instance: Any, attribute: Any, value: int) -> None:
    if value != 0 and (value < 3 or value % 2 == 0):
        raise ValueError(f"'{attribute.name}' must be an odd width of at least 3, or 0, got {value}")


def _not_negative(default: float) -> Any:
    return field(default=default, validator=validators.ge(0.0))


@frozen
class Augment:
    """What a training image goes through, masks alike where it moves."""

    flip: bool = True  # left to right and top to bottom, each in half of the images
    # Degrees at most, either way. Interpolation smooths noise: where pixels are noisy, or vessels a pixel wide, a
    # network trained on turned images takes the noise of real ones for vessels. For photographs with detail to spare.
    rotate: float = _not_negative(0.0)
    gain: float = _not_negative(0.15)  # sd of the logarithm of a factor common to all bands
    gamma: float = _not_negative(0.2)  # sd of the logarithm of an exponent common to all bands


@frozen
class WNet:
    """[segmenter] w-net: two small U-Nets in a row on a few bands."""

    classes: dict[str, tuple[str, ...]] = Factory(_vein_artery_disc)  # class -> data-set masks whose union it is
    wavelengths_nm: tuple[float, ...] = field(default=(555.0, 585.0, 610.0), validator=validators.min_len(1))
    bands: tuple[int, ...] = ()  # indices instead; a data set without wavelengths needs them, or all bands are taken
    contrast: int = field(default=15, validator=_odd_or_off)  # pixels of the window of local contrast; 0 = off
    widths: tuple[int, ...] = field(
        default=(8, 16, 32), validator=_two_levels, metadata={"smoke": (4, 8)}
    )  # channels of each level
    crop: int = field(default=0, validator=validators.ge(0))  # pixels a side of random crops; 0 = whole images
    crops: int = positive(1)  # of each volume in each step
    bce: float = _not_negative(1.0)  # weight of the binary cross-entropy
    # Weight of the soft Dice loss. It finds more, but pushes probabilities to 0 and 1: with 0 they stay calibrated, and
    # p >= 0.95 means what it says.
    dice: float = _not_negative(1.0)
    augment: Augment = Augment()
    fit: FitOptions = Factory(_wnet_fit)

    def __attrs_post_init__(self) -> None:
        if self.bce + self.dice == 0:
            raise ValueError("bce and dice are both 0: nothing would be learned")
