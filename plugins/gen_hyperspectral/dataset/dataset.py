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

import attrs
import numpy as np

from gen_core.dataset import Dataset, DatasetContext, Split, view_generator
from gen_core.errors import DataError, RecipeError
from gen_core.splits import NAMES, Region, crop_positions, split_regions, split_subjects
from gen_core.volume import Geometry, Sample, Scale, VolumeSpec
from gen_core.volume_cache import Cache, key_of, source_hash
from gen_core.writer import RawVolume
from gen_hyperspectral.dataset.sources import Source, find_sources, open_source, subjects_of
from gen_hyperspectral.dataset_options import Hyperspectral
from gen_hyperspectral.prepare.area_resize import area_resize, resize_valid
from gen_hyperspectral.prepare.augment import mirror_and_turn
from gen_hyperspectral.prepare.bands import Selection, evenly, gaussian, good_bands, nearest
from gen_hyperspectral.prepare.masks import mask_path, read_mask
from gen_hyperspectral.prepare.preprocess import Policy, preprocess
from gen_hyperspectral.prepare.scaling import LazyScale, estimate_scale, fixed_scale

VERSION = 2  # of the preprocessing: part of every cache key
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
        self._skipped: dict[str, str] = {}
        self._splits: dict[str, CubeSplit] = {}
        self._keys: dict[Path, str] = {}

    # what there is

    @cached_property
    def sources(self) -> list[Source]:
        """Every cube found, by path."""
        return find_sources(self.options)

    @cached_property
    def _first(self) -> RawVolume:
        """The first readable cube: it settles what the recipe leaves open."""
        for source in self.sources:
            if self._source_size(source) is not None:
                return open_source(source, self.options)
        raise DataError(f"dataset.root: none of the {len(self.sources)} files can be read")

    def _source_size(self, source: Source) -> tuple[int, int] | None:
        """(Y, X) of a cube; None when it cannot be read and dataset.unreadable = "skip"."""
        if source.path not in self._headers:
            try:
                self._headers[source.path] = open_source(source, self.options).array.shape[:2]
            except DataError as error:
                if self.options.unreadable == "refuse":
                    raise DataError(f'{error} (dataset.unreadable = "skip" passes over such files)') from None
                self._headers[source.path] = None
                self._skipped[source.id] = str(error)
        return self._headers[source.path]

    @cached_property
    def _depth(self) -> int:
        if self.context.volume.size is not None:
            return self.context.volume.size[0]
        if self.context.volume.wavelengths_nm is not None:
            return len(self.context.volume.wavelengths_nm)
        return len(self._good(self._first))

    def _good(self, raw: RawVolume) -> np.ndarray:
        return good_bands(raw.array.shape[2], raw.bad_bands, self.options.bad_bands)

    @cached_property
    def _targets(self) -> tuple[float, ...] | None:
        """Wavelengths of the volumes' bands, None where the files do not know theirs."""
        if self.context.volume.wavelengths_nm is not None:
            return tuple(float(w) for w in self.context.volume.wavelengths_nm)
        raw = self._first
        if raw.wavelength_nm is None:
            return None
        index = evenly(self._good(raw), raw.wavelength_nm, self._depth)
        return tuple(float(w) for w in raw.wavelength_nm[index])

    @cached_property
    def _size(self) -> tuple[int, int, int]:
        """(D, H, W) of every volume."""
        if self.context.volume.size is not None:
            return self.context.volume.size
        plane = self.options.crop.size or self._first.array.shape[:2]
        if "rot90" in self.options.augment and plane[0] != plane[1]:
            raise RecipeError(f"dataset.augment: rot90 needs square volumes, these are {plane[0]} x {plane[1]}")
        return (self._depth, *plane)

    @property
    def _plane(self) -> tuple[int, int] | None:
        """(H, W) of the cached volumes: that of the volumes, or None for source resolution (crops)."""
        return None if self.options.crop.size else self._size[1:]

    @cached_property
    def spec(self) -> VolumeSpec:  # type: ignore[override]
        """Known from the recipe and one header; its scale reads the training volumes when it is first asked for."""
        raw = self._first
        units = str(raw.meta.get("units", ""))
        return VolumeSpec(
            size=self._size,
            channels=("intensity",),
            depth="bands",
            wavelength_nm=self._targets,
            units=units,
            scale=LazyScale(lambda: self.scale),
            masks=("valid", *self.options.masks),
        )

    # splits

    @cached_property
    def _assigned(self) -> dict[str, list[Source]]:
        """The sources of each split; in one-subject mode every split has all of them."""
        if self._by_region:
            return {name: list(self.sources) for name in NAMES}
        subjects = split_subjects([s.subject for s in self.sources], self.context.split)
        return {name: [s for s in self.sources if s.subject in set(subjects[name])] for name in NAMES}

    @cached_property
    def _by_region(self) -> bool:
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

    def _regions(self, source: Source, size: tuple[int, int]) -> dict[str, Region]:
        crop = self.options.crop.size
        if crop is None:
            return {}
        if self._by_region:
            return split_regions(size, crop, self.context.split, str(source.path))
        if size[0] < crop[0] or size[1] < crop[1]:
            raise DataError(
                f"{source.path}: {size[0]} x {size[1]} pixels are smaller than dataset.crop.size {list(crop)}"
            )
        return dict.fromkeys(NAMES, Region(0, size[0], 0, size[1]))

    def split(self, name: str) -> Split:
        """Raises: DataError when files cannot be read or split, KeyError for an unknown name."""
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._splits:
            self._splits[name] = CubeSplit(self, name, self._items(name))
        return self._splits[name]

    def _items(self, name: str) -> list[Item]:
        items: list[Item] = []
        limit = self.context.limit
        for source in self._assigned[name]:
            if limit and len(items) >= limit:
                break
            size = self._source_size(source) if self.options.crop.size or self.options.unreadable == "skip" else ()
            if size is None:
                continue
            if not self.options.crop.size:
                items.append(Item(source))
                continue
            region = self._regions(source, size).get(name)  # type: ignore[arg-type]
            if region is None:
                continue
            seed = int(key_of(seed=self.context.split.seed, id=source.id, split=name)[:12], 16)
            corners = crop_positions(region, self.options.crop.size, self.options.crop.per_volume, seed)
            items += [Item(source, region, corner) for corner in corners]
        return items[:limit] if limit else items

    # reading

    def _selection(self, raw: RawVolume, name: str) -> Selection:
        good = self._good(raw)
        if self._targets is None:
            return Selection(evenly(good, None, self._depth))
        if raw.wavelength_nm is None:
            raise DataError(f"{name}: its wavelengths are unknown; give dataset.wavelengths_nm or a file beside it")
        targets = np.asarray(self._targets)
        try:
            if self.options.bands == "gaussian":
                return gaussian(raw.wavelength_nm, good, targets, self.options.fwhm_nm)
            return nearest(raw.wavelength_nm, good, targets, self.options.tolerance_nm)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None

    @cached_property
    def _policy(self) -> Policy:
        o = self.options
        return Policy(o.nan, o.nodata, o.saturation, o.saturated)

    def _key(self, source: Source) -> str:
        """What a cached volume depends on; the files are read once a process."""
        if source.path not in self._keys:
            self._keys[source.path] = self._make_key(source)
        return self._keys[source.path]

    def _make_key(self, source: Source) -> str:
        names = (
            "variable", "axes", "wavelengths_nm", "wavelength_units", "bands", "fwhm_nm", "tolerance_nm", "bad_bands",
            "use_bbl", "nan", "nodata", "saturation", "saturated",
        )  # fmt: skip
        return key_of(
            version=VERSION,
            reader=source.reader_facts,
            files=[source_hash(path, self.cache.folder) for path in source.files],
            settings={name: getattr(self.options, name) for name in names},
            depth=self._depth,
            targets=self._targets,
            plane=self._plane,
        )

    def volume(self, source: Source, verify: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """The cached physical values (D, H, W) of a cube, NaN where invalid, and the facts of the entry."""

        def shape() -> tuple[int, ...]:
            size = self._source_size(source)
            assert size is not None, "unreadable files are not in any split"
            return (self._depth, *(self._plane or size))

        def fill(out: np.ndarray) -> dict[str, Any]:
            raw = open_source(source, self.options)
            selection = self._selection(raw, str(source.path))
            good = self._good(raw)
            counts = preprocess(raw, selection, out, self._policy, str(source.path), good, raw.wavelength_nm)
            told = list(raw.warnings)
            grown = [n for n, m in zip(out.shape[1:], raw.array.shape[:2]) if n > m]
            if grown:
                told.append(f"smaller than volume.size ({raw.array.shape[:2]}): enlarged by linear interpolation")
            return {
                "source_size": list(raw.array.shape),
                "warnings": told,
                "missing_values": counts.missing,
                "saturated_values": counts.saturated,
            }

        return self.cache.fetch(self._key(source), shape, "<f4", fill, verify)

    def mask(self, source: Source, name: str) -> np.ndarray | None:
        """The cached mask (H, W) bool beside a cube; None when the file is not there."""
        path = mask_path(source.path, self.options.masks[name])
        if not path.is_file():
            return None
        size = self._source_size(source)
        assert size is not None, "unreadable files are not in any split"

        def fill(out: np.ndarray) -> dict[str, Any]:
            stored = read_mask(path, size)
            out[:] = stored if stored.shape == out.shape else area_resize(stored, out.shape) >= 0.5
            return {}

        key = key_of(mask=source_hash(path, self.cache.folder), plane=self._plane, size=size, version=VERSION)
        return self.cache.fetch(key, lambda: self._plane or size, "|b1", fill)[0]

    @cached_property
    def scale(self) -> Scale:
        """The scale of the recipe, or the one estimated over the training volumes (cached)."""
        o, depth = self.options.scale, self._size[0]
        if o.mode == "fixed":
            return fixed_scale(o.lo, o.hi, depth)
        low, high = (o.low, o.high) if o.mode == "quantile" else (0.0, 1.0)
        seen: dict[str, Item] = {}
        for item in self.split("train").items:  # type: ignore[attr-defined]
            seen.setdefault(item.source.id, item)

        def volumes() -> Any:
            for item in seen.values():
                array, _ = self.volume(item.source)
                r = item.region
                yield array if r is None else array[:, r.y0 : r.y1, r.x0 : r.x1]

        parts = [(self._key(i.source), attrs.astuple(i.region) if i.region else None) for i in seen.values()]
        key = key_of(scale=[low, high, o.per_band], parts=parts)

        def fill(out: np.ndarray) -> dict[str, Any]:
            made = estimate_scale(volumes, low, high, o.per_band)
            out[0], out[1] = made.lo.ravel(), made.hi.ravel()
            return {}

        lo, hi = np.array(self.cache.fetch(key, lambda: (2, depth), "<f4", fill, verify=True)[0])
        return Scale(lo.reshape(1, -1, 1, 1), hi.reshape(1, -1, 1, 1))

    # the record

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Fill the cache, estimate the scale, refuse equal content in two splits."""
        notes: list[str] = []
        splits: dict[str, Any] = {}
        owner: dict[str, tuple[str, Source]] = {}
        told: dict[str, dict[str, None]] = {}
        missing_masks: dict[str, int] = {}
        for name in NAMES:
            split = self.split(name)
            sources = list({i.source.id: i.source for i in split.items}.values())  # type: ignore[attr-defined]
            for k, source in enumerate(sources):
                _, facts = self.volume(source, verify=True)
                for line in facts["warnings"]:
                    told.setdefault(line, {})[source.id] = None
                for mask in self.options.masks:
                    missing_masks[mask] = missing_masks.get(mask, 0) + (self.mask(source, mask) is None)
                if not self._by_region:
                    self._refuse_twin(name, source, owner.setdefault(facts["content"], (name, source)))
                if progress is not None:
                    progress.update("prepare", k + 1, len(sources), {}, 0.0)
            splits[name] = {"volumes": len(split), "cubes": len(sources), "subjects": subjects_of(sources)}
        if self._by_region:
            notes.append("one subject: train and validation are regions of the same cube, with a gap between them")
            sizes = {s.id: self._source_size(s) for s in self.sources}
            splits["regions"] = {
                s.id: {n: attrs.asdict(r) for n, r in self._regions(s, sizes[s.id]).items()}
                for s in self.sources
                if sizes[s.id] is not None
            }
        for line, ids in ((line, list(found)) for line, found in told.items()):
            notes.append(f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {line}")
        notes += [f"mask '{m}' is missing beside {n} cubes" for m, n in missing_masks.items() if n]
        notes += [f"passed over {id}: {reason}" for id, reason in self._skipped.items()]
        regions = splits.pop("regions", {})
        return {
            "splits": splits,
            "regions": regions,
            "notes": notes,
            "skipped": dict(self._skipped),
            "scale": self.scale.to_json(),
            "wavelength_nm": None if self._targets is None else list(self._targets),
        }

    def _refuse_twin(self, name: str, source: Source, first: tuple[str, Source]) -> None:
        if first[0] != name:
            raise DataError(
                f"{first[1].path} ({first[0]}) and {source.path} ({name}) have the same content: remove one, "
                f"or set dataset.subject so that both fall into one split"
            )

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


@attrs.frozen(eq=False)
class Item:
    """One volume of a split: a cube, or a crop of it at `corner` (y, x) inside `region`."""

    source: Source
    region: Region | None = None
    corner: tuple[int, int] | None = None


class CubeSplit(Split):
    """Volumes of one split. `view` draws crops and augmentation in the training split only."""

    def __init__(self, dataset: HyperspectralDataset, name: str, items: list[Item]):
        self.dataset, self.name, self.items = dataset, name, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        item = self.items[i]
        return self._sample(item, item.corner, None)

    def view(self, i: int, draw: int) -> Sample:
        """Training: crop and augmentation from (seed, i, draw); other splits: the plain volume."""
        if self.name != "train":
            return self[i]
        item = self.items[i]
        rng = view_generator(self.dataset.context.seed, i, draw)
        corner = item.corner
        if item.region is not None:
            crop = self.dataset.options.crop.size
            tall, wide = (n - c + 1 for n, c in zip(item.region.shape, crop))  # type: ignore[arg-type]
            corner = (item.region.y0 + int(rng.integers(tall)), item.region.x0 + int(rng.integers(wide)))
        return self._sample(item, corner, rng)

    def _sample(self, item: Item, corner: tuple[int, int] | None, rng: np.random.Generator | None) -> Sample:
        dataset, options, source = self.dataset, self.dataset.options, item.source
        array, facts = dataset.volume(source)
        masks = {name: dataset.mask(source, name) for name in options.masks}
        id, digest = source.id, facts["content"]
        history = [f"{len(array)} of {facts['source_size'][2]} bands ({options.bands})"]
        if corner is not None:
            (y, x), (h, w) = corner, options.crop.size  # type: ignore[misc]
            cut = np.s_[..., y : y + h, x : x + w]
            id, digest = f"{id}@{y},{x}", hashlib.sha256(f"{digest} {y} {x} {h} {w}".encode()).hexdigest()
            history.append(f"crop {h} x {w} at {y}, {x}")
        else:
            cut = np.s_[...]
            history.append(f"area {facts['source_size'][0]} x {facts['source_size'][1]} -> {array.shape[1:]}")
        volume = np.array(array[cut])
        valid = np.isfinite(volume).all(axis=0)
        named = {name: np.array(mask[cut]) for name, mask in masks.items() if mask is not None}
        size = dataset._size
        if volume.shape[1:] != size[1:]:
            volume, valid = resize_valid(volume, valid, size[1:])
            named = {name: area_resize(mask, size[1:]) >= 0.5 for name, mask in named.items()}
        x_ = np.clip(dataset.scale.to_unit(volume[None]), -1.0, 1.0)
        x_[:, :, ~valid] = -1.0
        named = {"valid": valid, **named}
        if rng is not None:
            x_, named = mirror_and_turn(x_, named, options.augment, rng)
        return Sample(
            x=np.ascontiguousarray(x_, np.float32),
            id=id,
            subject=source.subject,
            hash=digest,
            scale=dataset.scale,
            geometry=Geometry(history=tuple(history)),
            masks={name: np.ascontiguousarray(mask)[None] for name, mask in named.items()},
        )
