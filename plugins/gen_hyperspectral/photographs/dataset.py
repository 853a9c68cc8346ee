"""The data set `fundus-photographs`: colour photographs of the fundus as volumes (1, 3, H, W) in [-1, 1].

Depth is colour in rising wavelength (blue, green, red) with nominal wavelengths, so that everything made for bands
works. The dark surround of the round field is -1 and False in the mask `valid`. Photographs are reduced by exact area
averaging and cached as grey values; the scale to [-1, 1] comes last.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.dataset import Dataset, DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.splits import NAMES, split_subjects
from gen_core.volume import Scale, VolumeSpec
from gen_core.volume_cache import Cache, key_of, source_hash
from gen_hyperspectral.photographs.dataset_options import FundusPhotographs
from gen_hyperspectral.photographs.find import Photograph, find_photographs
from gen_hyperspectral.photographs.planes import field_of_view, photograph_size, read_photograph
from gen_hyperspectral.photographs.split import PhotographSplit
from gen_hyperspectral.prepare.area_resize import area_resize, resize_valid
from gen_hyperspectral.prepare.masks import read_mask
from gen_hyperspectral.prepare.scaling import LazyScale, estimate_scale, fixed_scale

VERSION = 1  # of the preprocessing: part of every cache key
PLANES = 3


def build(options: FundusPhotographs, context: DatasetContext) -> Dataset:
    """The data set; nothing is read before it is asked for."""
    return FundusDataset(options, context)


class FundusDataset(Dataset):
    """Photographs of a folder. Errors about the data are raised when `spec`, `split` or `prepare` is used."""

    def __init__(self, options: FundusPhotographs, context: DatasetContext):
        self.options, self.context = options, context
        size, given = context.volume.size, context.volume.wavelengths_nm
        if size is not None and size[0] != PLANES:
            raise RecipeError(f"volume.size has depth {size[0]}: fundus photographs have 3 planes, blue, green and red")
        if given is not None and tuple(given) != tuple(options.wavelengths_nm):
            raise RecipeError(
                "volume.wavelengths_nm: the planes of photographs have the nominal ones of dataset.wavelengths_nm, "
                f"{list(options.wavelengths_nm)}"
            )
        if "rot90" in options.augment and size is not None and size[1] != size[2]:
            raise RecipeError(f"dataset.augment: rot90 needs square volumes, volume.size is {list(size)}")
        self.cache = Cache(Path(context.cache) / "fundus-photographs")
        self._splits: dict[str, PhotographSplit] = {}

    # what there is

    @cached_property
    def photographs(self) -> list[Photograph]:
        """Every photograph below the root, by path. Raises: DataError when there is none."""
        return find_photographs(self.options)

    @cached_property
    def _size(self) -> tuple[int, int]:
        """(H, W) of every volume: the recipe's, or that of the first photograph."""
        if self.context.volume.size is not None:
            return self.context.volume.size[1:]
        return photograph_size(self.photographs[0].path)

    @cached_property
    def spec(self) -> VolumeSpec:  # type: ignore[override]
        return VolumeSpec(
            size=(PLANES, *self._size),
            depth="bands",
            wavelength_nm=self.options.wavelengths_nm,
            units="grey value",
            scale=LazyScale(lambda: self.scale),
            masks=tuple(dict.fromkeys(("valid", *self.options.masks))),
        )

    # splits

    @cached_property
    def subjects(self) -> dict[str, list[str]]:
        """Subject names of each split. Raises: DataError when a fold or a fraction asks for too many."""
        names, fold = sorted({p.subject for p in self.photographs}), self.options.fold
        if fold is None:
            return split_subjects(names, self.context.split)
        if fold >= len(names) or len(names) < 2:
            raise DataError(f"dataset.fold = {fold}: there are {len(names)} subjects, folds start at 0")
        return {"train": [n for n in names if n != names[fold]], "val": [names[fold]], "test": []}

    def split(self, name: str) -> PhotographSplit:
        """Raises: DataError when files cannot be read or split, KeyError for an unknown name."""
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._splits:
            items = [p for p in self.photographs if p.subject in self.subjects[name]]
            limit = self.context.limit
            self._splits[name] = PhotographSplit(self, name, items[:limit] if limit else items)
        return self._splits[name]

    # reading

    def volume(self, photograph: Photograph, verify: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """The cached grey values (3, H, W) in [0, 1] of a photograph, NaN where invalid, and the entry's facts."""
        o = self.options
        field_mask = self._mask_path(photograph, "valid") if "valid" in o.masks else None

        def fill(out: np.ndarray) -> dict[str, Any]:
            planes, opaque, notes = read_photograph(photograph.path, o.grey)
            if field_mask is None:
                valid = field_of_view(planes, o.surround) & opaque
            else:
                valid = read_mask(field_mask, planes.shape[1:]) & opaque
            if not valid.any():
                raise DataError(f"{photograph.path}: no field brighter than dataset.surround = {o.surround:g}")
            size = planes.shape[1:]
            if size != self._size:
                planes, valid = resize_valid(planes, valid, self._size)
                if any(new > old for new, old in zip(self._size, size)):
                    notes.append(f"{size[0]} x {size[1]} pixels enlarged by linear interpolation")
            planes[:, ~valid] = np.nan
            out[:] = planes
            return {"source_size": list(size), "notes": notes}

        key = key_of(
            version=VERSION,
            files=[source_hash(p) for p in (photograph.path, field_mask) if p is not None],
            settings=[o.grey, o.surround],
            size=self._size,
        )
        return self.cache.fetch(key, lambda: (PLANES, *self._size), "<f4", fill, verify)

    def _mask_path(self, photograph: Photograph, name: str) -> Path | None:
        """The file of a mask; None when it is not there."""
        path = Path(self.options.root).expanduser() / self.options.masks[name].replace("{stem}", photograph.path.stem)
        return path if path.is_file() else None

    def mask(self, photograph: Photograph, name: str) -> np.ndarray | None:
        """The cached mask (H, W) bool of a photograph; None when the file is not there."""
        path = self._mask_path(photograph, name)
        if path is None:
            return None

        def fill(out: np.ndarray) -> dict[str, Any]:
            stored = read_mask(path, photograph_size(photograph.path))
            out[:] = stored if stored.shape == out.shape else area_resize(stored, out.shape) >= 0.5
            return {}

        key = key_of(mask=source_hash(path), size=self._size, version=VERSION)
        return self.cache.fetch(key, lambda: self._size, "|b1", fill)[0]

    @cached_property
    def scale(self) -> Scale:
        """Grey values to [-1, 1]: given in the recipe, or estimated over the training photographs."""
        o = self.options.scale
        if o.mode == "fixed":
            return fixed_scale(o.lo, o.hi, PLANES)
        low, high = (o.low, o.high) if o.mode == "quantile" else (0.0, 1.0)
        items = self.split("train").items
        return estimate_scale(lambda: (self.volume(p)[0] for p in items), low, high, o.per_band)

    # the record

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Fill the cache and refuse equal content in two splits."""
        notes: list[str] = []
        splits: dict[str, Any] = {}
        owner: dict[str, tuple[str, Photograph]] = {}
        missing: dict[str, int] = {}
        for name in NAMES:
            items = self.split(name).items
            for k, photograph in enumerate(items):
                _, facts = self.volume(photograph, verify=True)
                notes += [f"{photograph.id}: {line}" for line in facts["notes"]]
                for mask in self.options.masks:
                    missing[mask] = missing.get(mask, 0) + (self.mask(photograph, mask) is None)
                first = owner.setdefault(facts["content"], (name, photograph))
                if first[0] != name:
                    raise DataError(
                        f"{first[1].path} ({first[0]}) and {photograph.path} ({name}) have the same content: remove "
                        "one, or set dataset.subject so that both fall into one split"
                    )
                if progress is not None:
                    progress.update("prepare", k + 1, len(items), {}, 0.0)
            splits[name] = {"volumes": len(items), "subjects": sorted({p.subject for p in items})}
        notes += [f"mask '{m}' is missing for {n} photographs" for m, n in missing.items() if n]
        return {
            "splits": splits,
            "notes": notes,
            "scale": self.scale.to_json(),
            "wavelength_nm": list(self.options.wavelengths_nm),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Names and content of photographs and masks; empty where there are no files."""
        try:
            photographs = self.photographs
        except DataError:
            return {}
        files = [
            (p.id, name, source_hash(path))
            for p in photographs
            for name, path in (("", p.path), *((m, self._mask_path(p, m)) for m in self.options.masks))
            if path is not None
        ]
        return {"photographs": len(photographs), "files": key_of(files=files)}
