"""Settings of the data set `hyperspectral`."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import positive
from gen_hyperspectral.reader_options import Axes

share = validators.and_(validators.ge(0.0), validators.le(1.0))


def distinct(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if len(set(value)) != len(value):
        raise ValueError(f"'{attribute.name}' names something twice: {', '.join(value)}")


def _bounds(instance: CubeScale, attribute: Any, value: tuple[float, ...]) -> None:
    if instance.mode == "fixed" and not value:
        raise ValueError('scale.mode = "fixed" needs scale.lo and scale.hi, one number or one a band')


def _above_low(instance: CubeScale, attribute: Any, value: float) -> None:
    if value <= instance.low:
        raise ValueError(f"scale.high is {value:g}, expected more than scale.low = {instance.low:g}")


@frozen
class CubeScale:
    """How physical values map to [-1, 1]; estimated over the training volumes only."""

    mode: Literal["quantile", "minmax", "fixed"] = "quantile"
    low: float = field(default=0.001, validator=share)  # quantile that becomes -1
    high: float = field(default=0.999, validator=[share, _above_low])  # quantile that becomes +1
    per_band: bool = True  # spectra differ by a factor of 20 between bands
    lo: tuple[float, ...] = field(default=(), validator=_bounds)  # "fixed": physical value of -1
    hi: tuple[float, ...] = field(default=(), validator=_bounds)  # "fixed": physical value of +1


@frozen
class Crop:
    """Random crops instead of whole cubes."""

    size: tuple[int, int] | None = field(
        default=None, validator=validators.optional(validators.deep_iterable(validators.gt(0)))
    )  # (H, W) in source pixels; none = whole cubes
    per_volume: int = positive(16)  # crops of each cube that make up a split


@frozen
class Hyperspectral:
    """A folder of hyperspectral cubes, or one file."""

    root: str = ""  # folder or file; required
    pattern: str = "**/*"  # which files of the folder; those no reader recognizes are passed over
    variable: str = ""  # array of an .npz, .mat, HDF5 or zarr (by its path in it), when several fit
    axes: Axes = "auto"  # order of the axes in files that do not say it
    wavelengths_nm: tuple[float, ...] | None = None  # of the files' bands, where the files do not say them
    wavelength_units: Literal["", "nm", "um"] = ""  # of wavelengths in files without a unit; "" = guess
    subject: str = ""  # regular expression with one group on the relative path, or the index of a path part
    bands: Literal["nearest", "gaussian"] = "nearest"
    fwhm_nm: float = positive(20.0)  # width of the Gaussian band
    tolerance_nm: float = positive(20.0)  # "nearest": how far a band may lie from its target
    bad_bands: tuple[int, ...] = ()  # further bad bands, 0-based, as stored
    use_bbl: bool = True  # heed the bad-band list of the file
    nan: Literal["refuse", "fill", "mask"] = "refuse"  # NaN and no-data values; fill = along wavelength
    nodata: float | None = None  # value that means "nothing here"; none = what the file says
    saturation: float | None = None  # values from here on are saturated; none = unknown
    saturated: Literal["keep", "refuse", "mask"] = "keep"
    unreadable: Literal["refuse", "skip"] = "refuse"
    units: str = ""  # of the values; none = what the file says
    masks: dict[str, str] = Factory(dict)  # name = file beside the cube, such as "{stem}_vein.png" or .npy
    scale: CubeScale = CubeScale()
    crop: Crop = Crop()
    augment: tuple[Literal["flip_h", "flip_v", "rot90"], ...] = field(default=(), validator=distinct)
