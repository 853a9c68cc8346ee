"""Settings of the data set `fundus-photographs`; attrs only, so that a recipe resolves without numpy."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_hyperspectral.dataset_options import CubeScale, distinct


def _rising(instance: Any, attribute: Any, value: tuple[float, ...]) -> None:
    if len(value) != 3 or not 0 < value[0] < value[1] < value[2]:
        raise ValueError(f"'{attribute.name}' must be three rising wavelengths (blue, green, red), got {list(value)}")


def _grey_values() -> CubeScale:
    return CubeScale(mode="fixed", lo=(0.0,), hi=(1.0,))


@frozen
class FundusPhotographs:
    """A folder of colour photographs of the fundus (jpg, png, tif): three planes, blue, green and red.

    The split is [split]'s, by subject, unless `fold` names the subject to leave out.
    """

    root: str = ""  # folder; required
    pattern: str = "**/*"  # which files of the folder; those that are no image, and masks, are passed over
    masks: dict[str, str] = Factory(dict)  # name = file below root, such as "manual/{stem}_1stHO.png"
    subject: str = ""  # regular expression with one group on the name below root, or the index of a path part
    fold: int | None = field(
        default=None, validator=validators.optional(validators.ge(0))
    )  # leave one subject out: the fold-th by name is validation, all others are for training
    wavelengths_nm: tuple[float, ...] = field(default=(460.0, 540.0, 610.0), validator=_rising)  # nominal, of B, G, R
    grey: Literal["refuse", "repeat"] = "refuse"  # images without colour: "repeat" makes three equal planes
    surround: float = field(
        default=0.06, validator=[validators.ge(0.0), validators.lt(1.0)]
    )  # grey value in [0, 1] that the brightest colour of a pixel of the field exceeds
    scale: CubeScale = Factory(_grey_values)  # grey values 0 to 1 become -1 to 1
    augment: tuple[Literal["flip_h", "flip_v", "rot90"], ...] = field(default=(), validator=distinct)
