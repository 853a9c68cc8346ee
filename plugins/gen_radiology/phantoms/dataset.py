"""What phantoms of radiology share as data sets: subjects, splits, views, and volumes rendered once into a cache.

A volume is a pure function of (options, size, subject); the cache only saves time. Splits are by subject.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import asdict, evolve, frozen
from numpy.typing import NDArray

from gen_core.dataset import Dataset, DatasetContext, Split, view_generator
from gen_core.errors import DataError, RecipeError
from gen_core.rendered_cache import Cache
from gen_core.splits import NAMES, split_subjects
from gen_core.volume import Geometry, Sample, Scale, VolumeSpec, content_hash

_HOUSEKEEPING = ("subjects", "augment", "cache_gib", "workers")  # options that no volume depends on
_LEAST_SIDE = 8

Sizes = tuple[int, int, int]
Spacings = tuple[float, float, float]


@frozen(eq=False)
class Phantom:
    """One kind of phantom at one size: how a subject becomes a volume.

    render: subject -> (x (1, D, H, W) in [-1, 1], masks name -> (D, H, W)).
    facts: subject -> (condition: values of VolumeSpec.classes and scalars, geometry: its place in mm).
    """

    name: str  # of the data set
    subject: str  # what a subject is called: "chest", "head"
    version: int  # raised when a volume comes out differently
    spec: VolumeSpec
    render: Callable[[int], tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]]
    facts: Callable[[int], tuple[dict[str, Any], Geometry]]
    note: str


class PhantomDataset(Dataset):
    """Synthetic subjects; `options` is that of the phantom, with subjects, seed, augment, cache_gib and workers."""

    def __init__(self, options: Any, context: DatasetContext, phantom: Phantom):
        self.options, self.context, self.phantom, self.spec = options, context, phantom, phantom.spec
        names = {self._name(k): k for k in range(options.subjects)}
        cut = split_subjects(list(names), context.split)
        self.subjects = {name: [names[s] for s in cut[name]] for name in NAMES}
        self._splits: dict[str, PhantomSplit] = {}
        self._facts: dict[int, tuple[dict[str, Any], Geometry]] = {}  # drawing a subject takes longer than reading it

    def facts(self, subject: int) -> tuple[dict[str, Any], Geometry]:
        """(condition, geometry) of a subject, the caller's own."""
        if subject not in self._facts:
            self._facts[subject] = self.phantom.facts(subject)
        condition, geometry = self._facts[subject]
        return dict(condition), Geometry(geometry.affine.copy(), geometry.history)

    def _name(self, subject: int) -> str:
        return f"{self.phantom.subject}-{subject:05d}"

    def split(self, name: str) -> PhantomSplit:
        if name not in NAMES:
            raise DataError(f"{self.phantom.name}: no split '{name}'; there are {', '.join(NAMES)}")
        if name not in self._splits:
            self._splits[name] = PhantomSplit(self, name)
        return self._splits[name]

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Render what is not cached yet, telling `progress.update(stage, done, total, values, speed)` along the way."""
        splits, hashes, notes = {}, {}, []
        for name in NAMES:
            split = self.split(name)
            if not len(split):
                continue
            if split.cache is None:
                notes.append(f"{name}: larger than cache_gib = {self.options.cache_gib:g}; rendered at each access")
            else:
                for digest in split.cache.fill(_teller(progress, name)):
                    if hashes.setdefault(digest, name) != name:
                        raise DataError(
                            f"{self.phantom.name}: the same volume in splits '{hashes[digest]}' and '{name}'"
                        )
            splits[name] = {"volumes": len(split), "subjects": [self._name(s) for s in split.keys]}
        notes.append(self.phantom.note)
        return {"splits": splits, "notes": notes, "scale": self.spec.scale.to_json()}

    def fingerprint(self) -> dict[str, Any]:
        return {"phantom": self.phantom.version}


class PhantomSplit(Split):
    """Volumes of some subjects; stored ones are checked against their hash when first read, and made anew if bad."""

    def __init__(self, dataset: PhantomDataset, name: str):
        self.dataset, self.phantom = dataset, dataset.phantom
        keys, limit = dataset.subjects[name], dataset.context.limit
        self.keys: list[int] = keys[:limit] if limit else keys
        self.cache: Cache | None = None
        spec = dataset.spec
        if self.keys and 4 * len(self.keys) * int(np.prod(spec.shape)) <= dataset.options.cache_gib * 2**30:
            folder = dataset.context.cache / self.phantom.name / f"{name}-{self._digest()}"
            n, workers = len(self.keys), dataset.options.workers
            self.cache = Cache(folder, spec.shape, spec.masks, n, self._render, workers, mask_depth=spec.size[0])

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> Sample:
        i = range(len(self.keys))[i]  # IndexError beyond the end, negative from the end
        subject = self.keys[i]
        if self.cache is not None:
            x, masks, digest = self.cache.read(i)
        else:
            x, masks = self._render(i)
            digest = content_hash(x)
        name = self.dataset._name(subject)
        condition, geometry = self.dataset.facts(subject)
        return Sample(
            x=x,
            id=name,
            subject=name,
            hash=digest,
            scale=self.dataset.spec.scale,
            geometry=geometry,
            masks=masks,
            condition=condition,
        )

    def view(self, i: int, draw: int) -> Sample:
        """Volume i, mirrored or not as (seed, i, draw) decides when `augment` has "flip"; masks move along."""
        sample = self[i]
        if "flip" not in self.dataset.options.augment:
            return sample
        if view_generator(self.dataset.context.seed, i, draw).random() < 0.5:
            return sample
        flip: Callable[[NDArray], NDArray] = lambda a: np.ascontiguousarray(a[..., ::-1])
        geometry = evolve(sample.geometry, history=(*sample.geometry.history, "mirrored along W"))
        masks = {k: flip(m) for k, m in sample.masks.items()}
        return evolve(sample, x=flip(sample.x), masks=masks, geometry=geometry)

    def _render(self, i: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
        return self.phantom.render(self.keys[i])

    def _digest(self) -> str:
        """Names a cache entry: everything the volumes of this split depend on."""
        options = {k: v for k, v in asdict(self.dataset.options).items() if k not in _HOUSEKEEPING}
        what = {"version": self.phantom.version, "options": options, "size": self.dataset.spec.size, "keys": self.keys}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]


def grid_of(name: str, context: DatasetContext, default: tuple[int, int, int], options: Any) -> tuple[Sizes, Spacings]:
    """(size, spacing_mm) of a phantom: [volume] size, and its options spacing_mm, or fov_mm with slice_mm.

    Raises: RecipeError for sizes that are too small.
    """
    size = tuple(int(n) for n in (context.volume.size or default))
    if min(size) < 1 or min(size[1:]) < _LEAST_SIDE:
        raise RecipeError(f"[volume] size = {list(size)}: {name} needs D >= 1 and H, W >= {_LEAST_SIDE}")
    if context.volume.wavelengths_nm is not None:
        raise RecipeError(f"[volume] wavelengths_nm: {name} has slices, not bands")
    if options.spacing_mm is not None:
        return size, tuple(float(s) for s in options.spacing_mm)
    spacing = [f / n for f, n in zip(options.fov_mm, size)]
    return size, (min(spacing[0], options.slice_mm), spacing[1], spacing[2])


def window(lo: float, hi: float) -> Scale:
    """Values lo -> -1, hi -> +1, whatever lies beyond being clipped. Raises: RecipeError unless lo < hi."""
    if not lo < hi:
        raise RecipeError(f"[dataset] lo = {lo:g} must lie below hi = {hi:g}")
    column = lambda v: np.full((1, 1, 1, 1), v, np.float32)
    return Scale(column(lo), column(hi))


def to_unit(scale: Scale, physical: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D, H, W) of physical values -> (1, D, H, W) clipped to [-1, 1]."""
    return np.clip(scale.to_unit(physical[None]), -1.0, 1.0)


def _teller(progress: Any, split: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress.update(f"prepare {split}", done, total, {}, None)
