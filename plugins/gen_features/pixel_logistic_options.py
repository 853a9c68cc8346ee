"""Settings of the pixel classifier; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions


def _vessel_and_disc() -> dict[str, tuple[str, ...]]:
    return {"vessel": ("vein", "artery"), "onh": ("onh",)}


def _quick_fit() -> FitOptions:
    return FitOptions(steps=250, batch=8, lr=0.15, optimizer="adam", schedule="cosine", log_every=50)


def _odd(instance: Any, attribute: Any, value: tuple[int, ...]) -> None:
    if any(w < 3 or w % 2 == 0 for w in value):
        raise ValueError(f"'{attribute.name}' must be odd widths of at least 3, got {list(value)}")


@frozen
class PixelLogistic:
    """[segmenter] pixel-logistic: logistic regression on a pixel's spectrum and its neighbourhood."""

    classes: dict[str, tuple[str, ...]] = Factory(_vessel_and_disc)  # class -> data-set masks whose union it is
    windows: tuple[int, ...] = field(default=(3, 7, 15), validator=_odd)  # widths of local means, voxels
    pixels: int = field(default=1024, validator=validators.gt(0))  # of each volume in each step, drawn at random
    l2: float = field(default=1e-5, validator=validators.ge(0.0))  # weight penalty
    normalize_steps: int = field(
        default=20, validator=validators.gt(0)
    )  # first steps that set the whitening of the features
    fit: FitOptions = Factory(_quick_fit)
