"""Settings of the random views that feature networks learn from; attrs only: a recipe resolves without torch."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen, validators


def at_least_0(default: float) -> Any:
    """An attrs field >= 0."""
    return field(default=default, validator=validators.ge(0.0))


def share(default: float) -> Any:
    """An attrs field in [0, 1]."""
    return field(default=default, validator=[validators.ge(0.0), validators.le(1.0)])


@frozen
class ViewOptions:
    """[features.views]: how a view differs from its volume. No hue, no greyscale: the spectrum is what counts."""

    crop: float = field(default=0.3, validator=[validators.gt(0.0), validators.le(1.0)])  # least share of the area kept
    aspect: float = field(default=4 / 3, validator=validators.ge(1.0))  # most width / height of a crop, or its inverse
    rotate: float = field(default=15.0, validator=[validators.ge(0.0), validators.le(180.0)])  # degrees, at most
    flip_rows: bool = False  # upside down
    flip_columns: bool = True  # left and right
    gain: float = at_least_0(0.2)  # sd of the logarithm of the contrast, common to all bands
    offset: float = at_least_0(0.15)  # sd of the brightness, common to all bands; [-1, 1] is the whole range
    tilt: float = at_least_0(0.05)  # sd of a straight and of a curved change over the bands
    blur: float = at_least_0(0.02)  # most sd of a Gaussian, in image heights; half of the views are blurred
    noise: float = at_least_0(0.05)  # most sd of the noise
    cutout: float = share(0.3)  # most height and width of a block that is hidden; half of the views have one
