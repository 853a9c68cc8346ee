"""The data sets `dicom`, `nifti` and `lidc`: volumes (1, D, H, W) in [-1, 1] with masks and conditions.

On the way: axes turned to the patient's, resampled to a spacing, cropped and padded (or blocks cut at random, or slices
taken), a cache of physical values, and at the very end the scale. Voxels without data are NaN in the cache, False in
the mask `valid`, and have the pad value in x.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.dataset import Dataset, DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.splits import NAMES, Box, split_boxes, split_subjects
from gen_core.volume import Scale, VolumeSpec
from gen_core.volume_cache import Cache, key_of
from gen_radiology.dataset_options import Dicom, Lidc, Volumes
from gen_radiology.datasets import hu
from gen_radiology.datasets.cached_volumes import CachedVolumes
from gen_radiology.datasets.condition_table import ConditionTable, read_table
from gen_radiology.datasets.record import record
from gen_radiology.datasets.scales import VolumeScales
from gen_radiology.datasets.split import VolumeSplit, find_items
from gen_radiology.sources.find import find_sources
from gen_radiology.sources.quiet_names import Names
from gen_radiology.sources.source import Found, Source, files_hash
from gen_radiology.volumes import resample

LARGE = 1 << 30  # bytes of files from which on the fingerprint takes names, sizes and times
Size = tuple[int, int, int]


def build(options: Volumes, context: DatasetContext) -> Dataset:
    """The data set; nothing is read before it is asked for."""
    return RadiologyDataset(options, context)


class RadiologyDataset(Dataset):
    """Volumes of a folder. Errors about the data are raised when `spec`, `split` or `prepare` is used."""

    def __init__(self, options: Volumes, context: DatasetContext):
        self.options, self.context = options, context
        size = context.volume.size
        if context.volume.wavelengths_nm is not None:
            raise RecipeError("volume.wavelengths_nm: CT and MR have no wavelengths")
        if options.slices and size is not None and size[0] != 1:
            raise RecipeError(f"volume.size has depth {size[0]}: dataset.slices makes volumes with D = 1")
        if size is None and (options.sizing == "lungs" or getattr(options, "unit", "") == "nodule"):
            raise RecipeError("volume.size is not set: dataset.sizing = 'lungs' and dataset.unit = 'nodule' need it")
        self.cache = Cache(Path(context.cache) / "radiology")
        self._splits: dict[str, VolumeSplit] = {}
        self.skipped: dict[str, str] = {}
        self._usable: dict[str, bool] = {}
        self.cached = CachedVolumes(self)
        self._names: Names | None = None

    # what there is

    @cached_property
    def found(self) -> Found:
        found = find_sources(self.options)
        if isinstance(self.options, Dicom) and not self.options.keep_ids:
            self._names = Names(found.sources, found.words)
        return found

    def quiet(self, said: str) -> str:
        """A text without what headers tell of patients, unless dataset.keep_ids is set."""
        return self._names.quiet(said) if self._names else said

    def hinted(self, error: DataError) -> DataError:
        """An error of one volume, with the setting that passes over such volumes."""
        return DataError(self.quiet(f'{error} (dataset.unreadable = "skip" passes over such volumes)'))

    @property
    def sources(self) -> list[Source]:
        return self.found.sources

    @cached_property
    def table(self) -> ConditionTable | None:
        """The table of conditions, if the recipe names one."""
        o = self.options
        if not o.table:
            return None
        return read_table(Path(o.root).expanduser() / Path(o.table).expanduser(), o.scalars, o.classes)

    def usable(self, source: Source) -> bool:
        """False for a source that cannot be read where dataset.unreadable = "skip"; its pixels are read to know."""
        if self.options.unreadable == "refuse":
            return True
        if source.id not in self._usable:
            try:
                self.cached.volume(source)
                self.cached.masks(source)
                self._usable[source.id] = True
            except DataError as error:
                self._usable[source.id] = False
                self.skipped[source.id] = str(error)
        return self._usable[source.id]

    def grid(self, source: Source) -> tuple[Size, np.ndarray]:
        """Shape and affine of a source after turning and resampling to dataset.spacing_mm, from headers."""
        try:
            shape, affine = source.grid()
        except DataError as error:
            raise self.hinted(error) from None
        if self.options.orientation == "patient":
            shape, affine = resample.oriented_affine(shape, affine)
        if self.options.spacing_mm is not None and self.options.sizing == "crop":
            grid = resample.spacing_grid(shape, np.linalg.norm(affine[:3, :3], axis=0), self.options.spacing_mm)
            shape, affine = grid.shape, affine @ grid.matrix
        return shape, affine

    def _grids(self) -> Iterator[tuple[Size, np.ndarray]]:
        """The grid of every source whose headers can be read."""
        for source in self.sources:
            try:
                yield self.grid(source)
            except DataError:
                if self.options.unreadable == "refuse":
                    raise

    @cached_property
    def size(self) -> Size:
        """(D, H, W) of every volume: the recipe's, or that of the first readable source."""
        if self.context.volume.size is not None:
            return self.context.volume.size
        if self.options.crop.size is not None:
            return self.options.crop.size
        if getattr(self.options, "geometry", "") == "resample":
            raise RecipeError("volume.size is not set: dataset.geometry = 'resample' does not know it from headers")
        first = next(self._grids(), None)
        if first is None:
            raise DataError(f"dataset.root: none of the {len(self.sources)} volumes can be read")
        return (1, *first[0][1:]) if self.options.slices else first[0]

    def target(self, shape: Size) -> Size | None:
        """What a turned and resampled volume is cropped, padded or resized to before it is cached; None = as it is."""
        if self.options.crop.size is not None:
            return None
        return (shape[0], *self.size[1:]) if self.options.slices else self.size

    def shape(self, source: Source) -> Size:
        """(z, y, x) of the cached volume."""
        if isinstance(self.options, Dicom | Lidc) and self.options.geometry == "resample":
            return self.cached.volume(source)[0].shape  # an uneven stack gets its number of slices when it is read
        shape, _ = self.grid(source)
        return self.target(shape) or shape

    @cached_property
    def spacing(self) -> tuple[float, float, float] | None:
        """mm of the volumes' voxels; None where they differ from volume to volume by more than a hundredth."""
        crop, spacings = self.options.crop.size, []
        if self.options.sizing == "lungs":
            extent = self.options.lung_extent_mm
            return None if extent is None else tuple(round(e / n, 6) for e, n in zip(extent, self.size))  # type: ignore[return-value]
        for shape, affine in self._grids():
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            if crop is not None:
                spacing = spacing * np.array(crop) / np.array(self.size)
            elif self.options.sizing == "resize":
                spacing = spacing * np.array(shape) / np.array(self.target(shape))
            spacings.append(spacing)
        if not spacings or not np.allclose(spacings, spacings[0], rtol=0.01):
            return None
        z, y, x = (round(float(s), 6) for s in spacings[0])
        return (z, y, x)

    @property
    def _rootless(self) -> bool:
        """Whether the recipe names no folder yet: its plan is made from what the recipe says alone."""
        return not self.options.root and self.context.volume.size is not None

    @cached_property
    def units(self) -> str:
        if self._rootless:
            modality = "CT" if isinstance(self.options, Lidc) else getattr(self.options, "modality", "")
        else:
            modality = self.sources[0].modality
        return "HU" if modality.upper() == "CT" else ""

    @cached_property
    def scales(self) -> VolumeScales:
        return VolumeScales(self, self.options.scale, self.units)

    @cached_property
    def spec(self) -> VolumeSpec:  # type: ignore[override]
        """Known from headers, or from the recipe where it names no folder yet and volume.size is set.

        Its scale may read the training volumes when it is first asked for.
        """
        scale = hu.LazyScale(lambda: self.scale) if self.scaling == "percentiles" else self.scale
        return VolumeSpec(
            size=self.size,
            channels=("intensity",),
            depth="slices",
            units=self.units,
            spacing_mm=self.options.spacing_mm if self._rootless else self.spacing,
            scale=scale,
            masks=("valid", *self.options.masks),
            classes=self.classes,
        )

    @cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        classes: dict[str, tuple[str, ...]] = {}
        if isinstance(self.options, Lidc):
            from gen_radiology.sources.lidc import NODULES

            classes["nodule"] = NODULES
        elif isinstance(self.options, Dicom) and "sex" in self.options.header:
            from gen_radiology.sources.dicom import SEXES

            classes["sex"] = SEXES
        if self._rootless:
            return classes | {name: tuple(names) for name, names in self.options.classes.items()}
        return classes | (self.table.classes if self.table else {})

    def condition(self, source: Source, affine: np.ndarray, shape: Size) -> dict[str, Any]:
        """What headers and readings say of a block, and the table of its volume; the table has the last word."""
        said = source.condition(affine, shape)
        if self.table is not None:
            said |= self.table.of(source.id, source.subject) or self.table.unknown()
        return said

    # splits

    @cached_property
    def by_region(self) -> bool:
        """Whether one subject alone must serve training and validation."""
        split, subjects = self.context.split, {s.subject for s in self.sources}
        if split.val == 0 and split.test == 0 or len(subjects) > 1:
            return False
        if self.options.crop.size is None and not self.options.slices:
            raise DataError(
                f"dataset.root: all {len(self.sources)} volumes belong to one subject ('{self.quiet(min(subjects))}'): "
                f"set dataset.crop.size to split it into regions, or dataset.subject to tell subjects apart"
            )
        return True

    @cached_property
    def assigned(self) -> dict[str, list[Source]]:
        """The sources of each split; in one-subject mode every split has all of them."""
        if self.by_region:
            return {name: list(self.sources) for name in NAMES}
        subjects = split_subjects([s.subject for s in self.sources], self.context.split)
        return {name: [s for s in self.sources if s.subject in set(subjects[name])] for name in NAMES}

    def boxes(self, source: Source) -> dict[str, Box]:
        """Where the blocks or slices of each split may lie in the cached volume."""
        shape = self.shape(source)
        crop = self.options.crop.size or (1, *shape[1:])
        if self.by_region:
            return split_boxes(shape, crop, self.context.split, source.where)
        if any(n < c for n, c in zip(shape, crop)):
            by = " x ".join
            raise DataError(
                f"{source.where}: {by(map(str, shape))} voxels are fewer than dataset.crop.size {list(crop)}"
            )
        return dict.fromkeys(NAMES, Box((0, 0, 0), shape))

    def split(self, name: str) -> VolumeSplit:
        """Raises: DataError when files cannot be read or split, KeyError for an unknown name."""
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._splits:
            self._splits[name] = VolumeSplit(self, name, find_items(self, name))
        return self._splits[name]

    # scales

    @property
    def scaling(self) -> str:
        """ "window" or "percentiles"."""
        return self.scales.mode

    @property
    def scale(self) -> Scale:
        """That of the data set; see scales.py."""
        return self.scales.common

    # the record

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Fill the cache, refuse equal content in two splits, and tell all that was left out, guessed or moved."""
        try:
            return record(self, progress)
        except DataError as error:
            raise DataError(self.quiet(str(error))) from None
        finally:
            self.cached.forget()

    def fingerprint(self) -> dict[str, Any]:
        """Names and content of all files (of a large set: sizes and times instead); empty where there are no files."""
        try:
            sources = self.sources
        except DataError:
            return {}
        files = {path for s in sources for path in (*s.image_files, *s.mask_files)}
        if self.options.table:
            files.add(Path(self.options.root).expanduser() / Path(self.options.table).expanduser())
        root, paths = Path(self.options.root).expanduser(), sorted(p for p in files if p.is_file())
        if sum(path.stat().st_size for path in paths) > LARGE:
            content: Any = [[path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
        else:
            content = files_hash(paths, self.cache.folder)
        names = [path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in paths]
        return {"volumes": len(sources), "files": key_of(names=names, content=content)}
