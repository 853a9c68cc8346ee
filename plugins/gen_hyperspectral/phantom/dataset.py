"""The dataset `retina-phantom`: splits of synthetic eyes, rendered once into a memory-mapped cache.

A volume is a pure function of (options, size, wavelengths, subject, visit); the cache only saves time. Splits are
by subject. Outside the round field a volume holds -1 (reflectance 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gen_core.dataset import Dataset, DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.volume import VolumeSpec
from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposits import LABEL, ceiling_record
from gen_hyperspectral.phantom.fields import MASKS
from gen_hyperspectral.phantom.split import PhantomSplit, subject_name
from gen_hyperspectral.phantom.volume import DEFAULT_SIZE, VERSION, calibration, default_wavelengths

SPLITS = ("train", "val", "test")


def build(options: RetinaPhantom, context: DatasetContext) -> PhantomDataset:
    """The dataset of `options` at the size, bands and split of `context`."""
    return PhantomDataset(options, context)


class PhantomDataset(Dataset):
    """Synthetic eyes; see `RetinaPhantom` for the settings."""

    def __init__(self, options: RetinaPhantom, context: DatasetContext):
        size = tuple(context.volume.size or DEFAULT_SIZE)
        nm = _wavelengths(context.volume.wavelengths_nm, size)
        if min(size) < 1 or min(size[1:]) < 8:
            raise RecipeError(f"[volume] size = {list(size)}: the retina phantom needs D >= 1 and H, W >= 8")
        self.options, self.size, self.nm, self.context = options, size, nm, context
        self.spec = VolumeSpec(
            size=size,
            channels=("intensity",),
            depth="bands",
            wavelength_nm=nm,
            units="reflectance",
            scale=calibration(nm),
            masks=MASKS,
        )
        self.subjects = _split_subjects(options, context)
        self._splits: dict[str, PhantomSplit] = {}

    def split(self, name: str) -> PhantomSplit:
        if name not in SPLITS:
            raise DataError(f"retina-phantom: no split '{name}'; there are {', '.join(SPLITS)}")
        if name not in self._splits:
            self._splits[name] = PhantomSplit(self, name)
        return self._splits[name]

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Render what is not cached yet, telling `progress.update(stage, done, total, values, speed)` along the way."""
        splits, hashes, notes = {}, {}, []
        for name in SPLITS:
            split = self.split(name)
            if not len(split):
                continue
            if split.cache is None:
                notes.append(f"{name}: larger than cache_gib = {self.options.cache_gib:g}; rendered at each access")
            else:
                tell = None if progress is None else _teller(progress, name)
                for digest in split.cache.fill(tell):
                    if hashes.setdefault(digest, name) != name:
                        raise DataError(f"retina-phantom: the same volume in splits '{hashes[digest]}' and '{name}'")
            subjects = sorted({subject_name(s) for s, _ in split.keys})
            splits[name] = {"volumes": len(split), "subjects": subjects}
        notes.append("synthetic eyes of a layered model of the fundus; not patients")
        ceilings = {}
        if self.options.deposits > 0:
            ceilings[LABEL] = ceiling_record(
                self.options, {n: sorted({s for s, _ in self.split(n).keys}) for n in splits}
            )
        return {
            "splits": splits,
            "notes": notes,
            "wavelength_nm": list(self.nm),
            "scale": self.spec.scale.to_json(),
            **({"ceilings": ceilings} if ceilings else {}),
        }

    def fingerprint(self) -> dict[str, Any]:
        return {"phantom": VERSION}


def _teller(progress: Any, split: str) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(f"prepare {split}", done, total, {}, None)


def _wavelengths(given: tuple[float, ...] | None, size: tuple[int, ...]) -> tuple[float, ...]:
    if given is None:
        return default_wavelengths(size[0])
    nm = tuple(float(v) for v in given)
    lo, hi = optics.RANGE_NM
    if len(nm) != size[0]:
        raise RecipeError(f"[volume] wavelengths_nm has {len(nm)} values, but size[0] = {size[0]} bands")
    if any(b <= a for a, b in zip(nm, nm[1:])):
        raise RecipeError("[volume] wavelengths_nm must rise from band to band")
    if nm[0] < lo or nm[-1] > hi:
        raise RecipeError(f"[volume] wavelengths_nm: the retina phantom knows {lo:g} to {hi:g} nm")
    return nm


def _split_subjects(options: RetinaPhantom, context: DatasetContext) -> dict[str, list[int]]:
    """Subjects of each split: a permutation seeded by [split] seed, cut by the fractions."""
    n, s = options.subjects, context.split
    if s.val + s.test >= 1.0:
        raise RecipeError(f"[split] val + test = {s.val + s.test:g}: nothing is left to train on")
    order = np.random.default_rng([abs(s.seed), 7]).permutation(n)
    count = lambda f: min(n - 1, max(1, round(n * f))) if f > 0 else 0
    val, test = count(s.val), count(s.test)
    if val + test >= n:
        raise RecipeError(f"[dataset] subjects = {n} are too few for the fractions of [split]")
    cut = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {name: sorted(int(v) for v in cut[name]) for name in SPLITS}
