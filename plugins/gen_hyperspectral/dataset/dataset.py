"""The data set `hyperspectral`: cubes from files, as volumes (1, D, H, W) in [-1, 1].

On the way: bands chosen by wavelength, exact area averaging (or crops at source resolution), a cache of physical
values, and at the very end the scale to [-1, 1], estimated over the training volumes. Pixels without data are -1
and False in the mask `valid`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.dataset import Dataset, DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.splits import NAMES, Region, split_regions, split_subjects
from gen_core.volume import Scale, VolumeSpec
from gen_core.volume_cache import Cache, source_hash
from gen_core.writer import RawVolume
from gen_hyperspectral.dataset.cached_cubes import CachedCubes
from gen_hyperspectral.dataset.open_source import open_source
from gen_hyperspectral.dataset.record import record
from gen_hyperspectral.dataset.scale import scale_of
from gen_hyperspectral.dataset.sources import Source, find_sources, subjects_of
from gen_hyperspectral.dataset.split import CubeSplit, find_items
from gen_hyperspectral.dataset_options import Hyperspectral
from gen_hyperspectral.prepare.bands import evenly, good_bands
from gen_hyperspectral.prepare.scaling import LazyScale

FINGERPRINT_BYTES = 16 << 20  # files up to this size enter the fingerprint with their content


def build(options: Hyperspectral, context: DatasetContext) -> Dataset:
    """The data set; nothing is read before it is asked for."""
    return HyperspectralDataset(options, context)


class HyperspectralDataset(Dataset):
    """Cubes of a folder. Errors about the data are raised when `spec`, `split` or `prepare` is used."""

    def __init__(self, options: Hyperspectral, context: DatasetContext):
        self.options, self.context = options, context
        size, targets = context.volume.size, context.volume.wavelengths_nm
        if size is not None and targets is not None and size[0] != len(targets):
            raise RecipeError(
                f"volume.size has depth {size[0]}, volume.wavelengths_nm {len(targets)} values: they must agree"
            )
        if targets is not None and (np.diff(targets) <= 0).any():
            raise RecipeError("volume.wavelengths_nm must rise")
        if "rot90" in options.augment and size is not None and size[1] != size[2]:
            raise RecipeError(f"dataset.augment: rot90 needs square volumes, volume.size is {list(size)}")
        self.cache = Cache(Path(context.cache) / "hyperspectral")
        self._headers: dict[Path, tuple[int, int] | None] = {}
        self.skipped: dict[str, str] = {}
        self._splits: dict[str, CubeSplit] = {}
        self.cached = CachedCubes(self)

    # what there is

    @cached_property
    def sources(self) -> list[Source]:
        """Every cube found, by path."""
        return find_sources(self.options)

    @cached_property
    def first(self) -> RawVolume:
        """The first readable cube: it settles what the recipe leaves open."""
        for source in self.sources:
            if self.source_size(source) is not None:
                return open_source(source, self.options)
        raise DataError(f"dataset.root: none of the {len(self.sources)} files can be read")

    def source_size(self, source: Source) -> tuple[int, int] | None:
        """(Y, X) of a cube; None when it cannot be read and dataset.unreadable = "skip"."""
        if source.path not in self._headers:
            try:
                self._headers[source.path] = open_source(source, self.options).array.shape[:2]
            except DataError as error:
                if self.options.unreadable == "refuse":
                    raise DataError(f'{error} (dataset.unreadable = "skip" passes over such files)') from None
                self._headers[source.path] = None
                self.skipped[source.id] = str(error)
        return self._headers[source.path]

    @cached_property
    def depth(self) -> int:
        """D: the recipe's, or the number of good bands of the first cube."""
        if self.context.volume.size is not None:
            return self.context.volume.size[0]
        if self.context.volume.wavelengths_nm is not None:
            return len(self.context.volume.wavelengths_nm)
        return len(self.good(self.first))

    def good(self, raw: RawVolume) -> np.ndarray:
        """Indices of the bands that neither the file nor the recipe calls bad."""
        return good_bands(raw.array.shape[2], raw.bad_bands, self.options.bad_bands)

    @cached_property
    def targets(self) -> tuple[float, ...] | None:
        """Wavelengths of the volumes' bands, None where the files do not know theirs."""
        if self.context.volume.wavelengths_nm is not None:
            return tuple(float(w) for w in self.context.volume.wavelengths_nm)
        raw = self.first
        if raw.wavelength_nm is None:
            return None
        index = evenly(self.good(raw), raw.wavelength_nm, self.depth)
        return tuple(float(w) for w in raw.wavelength_nm[index])

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """(D, H, W) of every volume."""
        if self.context.volume.size is not None:
            return self.context.volume.size
        plane = self.options.crop.size or self.first.array.shape[:2]
        if "rot90" in self.options.augment and plane[0] != plane[1]:
            raise RecipeError(f"dataset.augment: rot90 needs square volumes, these are {plane[0]} x {plane[1]}")
        return (self.depth, *plane)

    @property
    def plane(self) -> tuple[int, int] | None:
        """(H, W) of the cached volumes: that of the volumes, or None for source resolution (crops)."""
        return None if self.options.crop.size else self.size[1:]

    @cached_property
    def spec(self) -> VolumeSpec:  # type: ignore[override]
        """Known from the recipe and one header; its scale reads the training volumes when it is first asked for."""
        raw = self.first
        units = str(raw.meta.get("units", ""))
        return VolumeSpec(
            size=self.size,
            channels=("intensity",),
            depth="bands",
            wavelength_nm=self.targets,
            units=units,
            scale=LazyScale(lambda: self.scale),
            masks=("valid", *self.options.masks),
        )

    # splits

    @cached_property
    def assigned(self) -> dict[str, list[Source]]:
        """The sources of each split; in one-subject mode every split has all of them."""
        if self.by_region:
            return {name: list(self.sources) for name in NAMES}
        subjects = split_subjects([s.subject for s in self.sources], self.context.split)
        return {name: [s for s in self.sources if s.subject in set(subjects[name])] for name in NAMES}

    @cached_property
    def by_region(self) -> bool:
        """Whether one subject alone must serve training and validation."""
        split = self.context.split
        if split.val == 0 and split.test == 0 or len(subjects_of(self.sources)) > 1:
            return False
        if self.options.crop.size is None:
            raise DataError(
                f"dataset.root: all {len(self.sources)} files belong to one subject ('{self.sources[0].subject}'): set "
                f"dataset.crop.size to split it into regions, or dataset.subject to tell subjects apart"
            )
        return True

    def regions(self, source: Source, size: tuple[int, int]) -> dict[str, Region]:
        """Where the crops of each split may lie in a cube of `size`; empty for whole cubes. Raises: DataError."""
        crop = self.options.crop.size
        if crop is None:
            return {}
        if self.by_region:
            return split_regions(size, crop, self.context.split, str(source.path))
        if size[0] < crop[0] or size[1] < crop[1]:
            raise DataError(
                f"{source.path}: {size[0]} x {size[1]} pixels are smaller than dataset.crop.size {list(crop)}"
            )
        return dict.fromkeys(NAMES, Region(0, size[0], 0, size[1]))

    def split(self, name: str) -> CubeSplit:
        """Raises: DataError when files cannot be read or split, KeyError for an unknown name."""
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._splits:
            self._splits[name] = CubeSplit(self, name, find_items(self, name))
        return self._splits[name]

    @cached_property
    def scale(self) -> Scale:
        """The scale of the recipe, or the one estimated over the training volumes (cached)."""
        return scale_of(self)

    # the record

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Fill the cache, estimate the scale, refuse equal content in two splits."""
        return record(self, progress)

    def fingerprint(self) -> dict[str, Any]:
        """Names with content (small files) or size and time (large ones); empty where there are no files."""
        try:
            sources = self.sources
        except DataError:
            return {}
        digest = hashlib.sha256()
        for source in sources:
            for path in source.files:
                stat = path.stat()
                small = stat.st_size <= FINGERPRINT_BYTES
                content = source_hash(path) if small else f"{stat.st_size} {stat.st_mtime_ns}"
                digest.update(f"{source.id} {path.name} {content}\n".encode())
        return {"cubes": len(sources), "files": digest.hexdigest()}
