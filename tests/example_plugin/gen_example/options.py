"""Settings; attrs only, so that a recipe is checked without torch."""

from __future__ import annotations

from attrs import Factory, field, frozen, validators
from gen_core.options import FitOptions, positive


@frozen
class Rings:
    """[dataset] rings."""

    subjects: int = positive(20)
    width: float = positive(0.2)  # of the ring, as a share of the image


@frozen
class PatchLinear:
    """[codec] patch-linear."""

    stride: tuple[int, int, int] = (2, 4, 4)  # D, H, W: the size of a patch
    channels: int = positive(6)
    fit: FitOptions = Factory(lambda: FitOptions(steps=200, batch=8, lr=1e-2))


@frozen
class MeanError:
    """[metrics] mean-error."""

    power: float = field(default=1.0, validator=[validators.ge(0.5), validators.le(2.0)])
