"""Settings of the data sets `dicom`, `nifti` and `lidc`; attrs only, so that a recipe resolves without numpy."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import positive
from gen_radiology.reader_options import GeometryPolicy

share = validators.and_(validators.ge(0.0), validators.le(1.0))
Flip = Literal["flip_d", "flip_h", "flip_w"]
LIDC_MASKS = ("nodule", "solid", "part-solid", "ground-glass")
Header = Literal["age", "sex", "weight", "slice_spacing_mm", "pixel_spacing_mm"]


def distinct(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if len(set(value)) != len(value):
        raise ValueError(f"'{attribute.name}' names something twice: {', '.join(value)}")


def sizes(default: Any = None) -> Any:
    """A field of three positive numbers in the order D, H, W, or none."""
    return field(default=default, validator=validators.optional(validators.deep_iterable(validators.gt(0))))


def _no_valid(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    distinct(instance, attribute, value)
    if "valid" in value:
        raise ValueError("'masks': 'valid' is always there, and marks voxels with data")


def _above_low(instance: Intensity, attribute: Any, value: float) -> None:
    if value <= instance.low:
        raise ValueError(f"scale.high is {value:g}, expected more than scale.low = {instance.low:g}")


def _above_lo(instance: Intensity, attribute: Any, value: float) -> None:
    if value <= instance.lo:
        raise ValueError(f"scale.hi is {value:g}, expected more than scale.lo = {instance.lo:g}")


@frozen
class Intensity:
    """How physical values map to [-1, 1]. "auto": a window for CT, percentiles for everything else."""

    mode: Literal["auto", "window", "percentiles"] = "auto"
    lo: float = -1000.0  # "window": physical value of -1 (HU for CT)
    hi: float = field(default=1000.0, validator=_above_lo)  # "window": physical value of +1
    low: float = field(default=0.005, validator=share)  # "percentiles": the share of the foreground below -1
    high: float = field(default=0.995, validator=[share, _above_low])  # "percentiles": that below +1
    of: Literal["volume", "training"] = "volume"  # "percentiles": of each volume, or of all for training together
    foreground: Literal["all", "nonzero", "otsu"] = "nonzero"  # which voxels are counted


@frozen
class Crop:
    """Random blocks instead of whole volumes."""

    size: tuple[int, int, int] | None = sizes()  # (D, H, W) in voxels after resampling; none = whole volumes
    per_volume: int = positive(16)  # blocks of each volume that make up a split
    at_mask: str = ""  # a mask: a share of the blocks is drawn about one of its voxels
    at_share: float = field(default=0.5, validator=share)  # of the views for training


@frozen
class Volumes:
    """What the three data sets share: from a volume in mm and physical units to one that a network takes."""

    root: str = ""  # folder; required
    subject: str = ""  # regular expression with one group on the path below root, or the index of a path part
    orientation: Literal["patient", "stored"] = "patient"  # axes to head, back and left, turned by quarters at most
    spacing_mm: tuple[float, float, float] | None = sizes()  # (D, H, W); none = as it is
    sizing: Literal["crop", "resize", "lungs"] = (
        "crop"  # to volume.size: crop or pad; resample all; or the lungs' block
    )
    at: str = "centre"  # what a crop is centred on: "centre", "foreground", "lungs" (CT), or a mask's name
    lung_margin_mm: tuple[float, float, float] = (10.0, 20.0, 20.0)  # "lungs": (D, H, W) about them on either side
    lung_extent_mm: tuple[float, float, float] | None = sizes()  # "lungs": a block of that size for every patient
    remove_table: bool = False  # CT: what is not the patient becomes air
    pad: float | None = None  # physical value of voxels without data; none = the lower end of the scale
    nan: Literal["refuse", "mask"] = "refuse"  # values that are not finite: "mask" makes them invalid
    scale: Intensity = Factory(Intensity)
    masks: tuple[str, ...] = field(default=(), validator=_no_valid)  # which masks, by standardized name
    require_masks: bool = False  # a volume without one of them is unreadable, instead of having it empty
    resample_masks: Literal["volume", "nearest"] = "volume"  # half of the voxel covered, or what its centre is
    table: str = ""  # CSV or TSV of conditions, below root or absolute; a column `subject` or `id` says whose
    scalars: tuple[str, ...] = field(default=(), validator=distinct)  # columns of the table that are numbers
    classes: dict[str, tuple[str, ...]] = Factory(dict)  # columns that are classes = their names in order; [] = sorted
    unreadable: Literal["refuse", "skip"] = "refuse"
    slices: bool = False  # every axial slice is a volume with D = 1
    crop: Crop = Factory(Crop)
    augment: tuple[Flip, ...] = field(default=(), validator=distinct)  # mirrored at random, in training
    shift: tuple[int, int, int] = field(
        default=(0, 0, 0), validator=validators.deep_iterable(validators.ge(0))
    )  # (D, H, W) voxels, at most: moved at random, in training

    def __attrs_post_init__(self) -> None:
        crop = self.crop.size is not None
        for wrong, why in (
            (self.slices and crop, "'crop.size' and 'slices' exclude each other"),
            (
                crop and (self.at != "centre" or self.sizing != "crop"),
                "'crop.size' takes blocks anywhere, without 'at', 'sizing'",
            ),
            (crop and any(self.shift), "'crop.size' draws its blocks anew: 'shift' has no effect"),
            (self.sizing == "lungs" and self.slices, "'sizing' = lungs goes without 'slices'"),
            (
                self.sizing != "crop" and self.at != "centre",
                f"'sizing' = {self.sizing} leaves nothing for 'at' to place",
            ),
            (
                self.sizing != "crop" and self.spacing_mm,
                f"'sizing' = {self.sizing} sets the spacing: leave 'spacing_mm' out",
            ),
            (self.sizing != "lungs" and self.lung_extent_mm, "'lung_extent_mm' is for 'sizing' = lungs"),
            (
                self.crop.at_mask and self.crop.at_mask not in self.masks,
                f"'crop.at_mask' is '{self.crop.at_mask}', which is none of 'masks'",
            ),
            (
                self.at not in ("centre", "foreground", "lungs", *self.masks),
                f"'at' is '{self.at}', expected centre, foreground, lungs or one of 'masks'",
            ),
            (
                (self.scalars or self.classes) and not self.table,
                "'scalars' and 'classes' are columns of 'table': not set",
            ),
        ):
            if wrong:
                raise ValueError(why)


@frozen
class Dicom(Volumes):
    """A folder of DICOM series, any nesting, several patients and series; the subject is the PatientID."""

    modality: str = ""  # "CT", "MR", ...; none = whatever is there, when it is one
    description: str = ""  # regular expression that a series description must contain, such as "T1"
    min_slices: int = positive(2)  # shorter series (scouts) are left out
    geometry: GeometryPolicy = "refuse"  # tilted, uneven or incomplete stacks
    aliases: dict[str, tuple[str, ...]] = Factory(dict)  # standardized mask name = further names in the files
    header: tuple[Header, ...] = field(default=(), validator=distinct)  # conditions from the header
    keep_ids: bool = False  # PatientIDs and series descriptions in records and reports, as of public data


@frozen
class Nifti(Volumes):
    """A folder of NIfTI images; {id} in a pattern is the image's path below root without suffix, {stem} its name."""

    pattern: str = "**/*.nii*"  # which files are images; those that are masks are passed over
    modality: str = "MR"  # "CT": values are HU
    mask_files: dict[str, str] = Factory(dict)  # mask = its file below root, such as "masks/{stem}_tumour.nii.gz"
    labels_file: str = ""  # a file with several labels, such as "{id}_seg.nii.gz"
    labels: dict[str, int] = Factory(dict)  # mask = its label in labels_file

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        unknown = set(self.masks) - set(self.mask_files) - set(self.labels)
        if unknown:
            raise ValueError(f"'masks': '{min(unknown)}' is in neither 'mask_files' nor 'labels'")


@frozen
class Lidc(Volumes):
    """LIDC-IDRI: CT series and readings in XML, matched by SeriesInstanceUID. The mask `nodule` is the consensus."""

    scale: Intensity = Factory(lambda: Intensity(mode="window"))
    masks: tuple[str, ...] = field(default=("nodule",), validator=_no_valid)
    unit: Literal["scan", "nodule"] = "scan"  # a volume is a scan, or a block of volume.size about one nodule
    level: float = field(default=0.5, validator=[validators.gt(0.0), validators.le(1.0)])  # share of all readers
    min_slices: int = positive(2)
    geometry: GeometryPolicy = "refuse"
    xml: str = "**/*.xml"  # where the readings are, below root
    without_xml: Literal["healthy", "leave out"] = "leave out"  # series that nobody has read

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        unknown = [name for name in self.masks if name not in LIDC_MASKS]
        if unknown:
            raise ValueError(f"'masks': no mask '{unknown[0]}'; LIDC has {', '.join(LIDC_MASKS)}")
        if self.unit == "nodule" and (self.slices or self.crop.size or self.sizing != "crop" or self.at != "centre"):
            raise ValueError(
                "'unit' = nodule places its own blocks: leave 'slices', 'crop.size', 'sizing' and 'at' out"
            )
