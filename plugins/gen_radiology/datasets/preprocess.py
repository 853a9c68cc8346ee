"""From a source to the block that is cached: turned, resampled, cropped and padded, its masks along with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.errors import DataError, RecipeError
from gen_radiology.dataset_options import Volumes
from gen_radiology.datasets import crop_pad
from gen_radiology.sources.source import Source
from gen_radiology.volumes.image import Image
from gen_radiology.volumes.resample import oriented, oriented_affine, resample, resample_mask, size_grid, spacing_grid

Size = tuple[int, int, int]


@define(eq=False)
class Prepared:
    """array: (z, y, x) physical, NaN without data. masks: those that were found. history: lines of a Geometry."""

    array: np.ndarray
    masks: dict[str, np.ndarray]
    affine: np.ndarray
    history: list[str] = Factory(list)
    notes: list[str] = Factory(list)
    mask_notes: list[str] = Factory(list)


@define(eq=False)
class Block:
    """The last image and the last block that were made: nodules of one scan, volume and masks, come one by one."""

    whole: tuple[str, Prepared] | None = None
    part: tuple[str, Prepared] | None = None


def prepared(
    source: Source, options: Volumes, target: Callable[[Size], Size | None], units: str, last: Block
) -> Prepared:
    """The block of a source that is cached. target: the size of a turned and resampled volume, None = as it is.

    Raises: DataError naming the file.
    """
    if last.part is None or last.part[0] != source.id:
        name = source.whole or source.id
        if last.whole is None or last.whole[0] != name:
            last.part = last.whole = None  # before the next is read: two of them may not fit
            last.whole = (name, _whole(source, options))
        last.part = (source.id, _fitted(last.whole[1], source, options, target, units))
    return last.part[1]


def _whole(source: Source, options: Volumes) -> Prepared:
    """Read, turned to the patient's axes, and resampled to dataset.spacing_mm."""
    image, masks = source.read(bool(options.masks))
    finite = _check(image, options, source.where)
    if options.remove_table:
        _remove_table(image)
    shape = " x ".join(map(str, image.array.shape))
    made = Prepared(
        image.array if finite.all() else np.where(finite, image.array, np.float32(np.nan)),
        masks.masks,
        image.affine,
        [f"{source.modality or 'image'} {shape}"],
        list(image.warnings),
        list(masks.notes),
    )
    if options.orientation == "patient":
        new, affine = oriented_affine(image.array.shape, image.affine)
        if not np.array_equal(affine, image.affine):
            made.history.append(f"axes turned to head, back and left: {' x '.join(map(str, new))}")
        made.array = oriented(made.array, image.affine)
        made.masks = {name: oriented(mask, image.affine) for name, mask in made.masks.items()}
        made.affine = affine
    if options.spacing_mm is not None and options.sizing == "crop":
        spacing = np.linalg.norm(made.affine[:3, :3], axis=0)
        _resample(made, spacing_grid(made.array.shape, spacing, options.spacing_mm), options)
    return made


def _remove_table(image: Image) -> None:
    from gen_radiology.volumes.lungs import body_mask, without_table

    body, notes = body_mask(image)
    image.warnings += notes
    if body.any():
        missing = ~np.isfinite(image.array)
        image.array = without_table(image, body)
        image.array[missing] = np.nan
    else:
        image.warnings.append("no patient found: nothing removed about it")


def _check(image: Image, options: Volumes, where: str) -> np.ndarray:
    """Where values are finite. Raises: DataError where none is, or some are not and dataset.nan = "refuse"."""
    finite = np.isfinite(image.array)
    if not finite.any():
        raise DataError(f"{where}: no voxel has a finite value")
    if options.nan == "refuse" and not finite.all():
        n = int(finite.size - finite.sum())
        raise DataError(
            f'{where}: {n} of {finite.size} voxels are not finite (dataset.nan = "mask" makes them invalid)'
        )
    return finite


def _resample(made: Prepared, grid: Any, options: Volumes) -> None:
    if grid.same:
        return
    before = {name: bool(mask.any()) for name, mask in made.masks.items()}
    made.array = resample(made.array, grid)
    made.masks = {name: resample_mask(mask, grid, options.resample_masks) for name, mask in made.masks.items()}
    made.affine = made.affine @ grid.matrix
    spacing = np.linalg.norm(made.affine[:3, :3], axis=0)
    made.history.append(
        f"resampled {' x '.join(map(str, grid.source))} -> {' x '.join(map(str, grid.shape))} "
        f"({' x '.join(f'{s:.4g}' for s in spacing)} mm)"
    )
    made.mask_notes += [
        f"mask '{name}' is too small for the voxels it is resampled to: empty"
        for name, mask in made.masks.items()
        if before[name] and not mask.any()
    ]


def _fitted(
    whole: Prepared, source: Source, options: Volumes, target: Callable[[Size], Size | None], units: str
) -> Prepared:
    """Cropped and padded, or resized, to the target size; what `whole` holds stays as it is."""
    made = Prepared(
        whole.array, dict(whole.masks), whole.affine, list(whole.history), list(whole.notes), list(whole.mask_notes)
    )
    size = target(whole.array.shape)
    if size is None:
        return made
    if options.sizing == "resize":
        _resample(made, size_grid(whole.array.shape, size), options)
        return made
    if options.sizing == "lungs":
        if options.orientation == "stored":
            raise RecipeError(
                'dataset.sizing = "lungs" needs dataset.orientation = "patient": the box has patient axes'
            )
        corner, block = _about_lungs(made, source, options)
        _crop(made, corner, block, "lungs")
        _resample(made, size_grid(block, size), options)
        return made
    if source.focus is not None:
        index = np.linalg.inv(whole.affine) @ [*source.focus, 1.0]
        corner, how = crop_pad.around(index[:3], size), "nodule"
    elif options.at == "lungs":
        middle = _lung_middle(made, source)
        corner, how = crop_pad.inside(crop_pad.around(middle, size), (0, 0, 0), whole.array.shape, size), "lungs"
    else:
        corner, how = crop_pad.place(whole.array, whole.masks, size, options.at, units, source.where)
    if how.startswith("centre:"):
        made.notes.append(f"dataset.at = '{options.at}': {how.removeprefix('centre: ')}; centred")
    if corner != (0, 0, 0) or size != whole.array.shape:
        _crop(made, corner, size, how)
    return made


def _in_air(made: Prepared, source: Source) -> Image:
    """The volume as an image; voxels without data are air."""
    air = np.where(np.isfinite(made.array), made.array, np.float32(-1000.0))
    return Image(air, made.affine, source.id, source.subject, source.modality, "HU")


def _lung_middle(made: Prepared, source: Source) -> np.ndarray:
    """The middle of both lungs, or of what there is, as an index of the volume's own axes."""
    from gen_radiology.volumes.lung_alignment import lung_middle

    middle, notes = lung_middle(_in_air(made, source))
    made.notes += notes
    return (np.array(made.array.shape) - 1) / 2 if middle is None else middle


def _about_lungs(made: Prepared, source: Source, options: Volumes) -> tuple[Size, Size]:
    """Corner and size of the block about both lungs, in voxels of a volume with patient axes."""
    from gen_radiology.volumes.lung_alignment import lung_box
    from gen_radiology.volumes.lungs import find_lungs

    image = _in_air(made, source)
    lungs = find_lungs(image)
    box, notes = lung_box(image, lungs, options.lung_margin_mm, options.lung_extent_mm)
    made.notes += [*lungs.notes, *notes]
    return box.corner, box.shape


def _crop(made: Prepared, corner: Size, size: Size, how: str) -> None:
    before = {name: int(mask.sum()) for name, mask in made.masks.items()}
    made.history.append(crop_pad.describe(made.array.shape, corner, size, how))
    made.array = crop_pad.cut(made.array, corner, size)
    made.masks = {name: crop_pad.cut(mask, corner, size) for name, mask in made.masks.items()}
    made.affine = crop_pad.moved(made.affine, corner)
    made.mask_notes += [
        f"{before[name] - int(mask.sum())} of {before[name]} voxels of mask '{name}' lie outside the crop"
        for name, mask in made.masks.items()
        if how != "nodule" and mask.sum() < before[name]
    ]
