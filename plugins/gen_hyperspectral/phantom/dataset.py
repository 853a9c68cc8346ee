"""The dataset `retina-phantom`: splits of synthetic eyes, rendered once into a memory-mapped cache.

A volume is a pure function of (options, size, wavelengths, subject, visit); the cache only saves time. Splits are
by subject. Outside the round field a volume holds -1 (reflectance 0).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import asdict, evolve
from numpy.typing import NDArray

from gen_core.dataset import Dataset, DatasetContext, Split, view_generator
from gen_core.errors import DataError, RecipeError
from gen_core.rendered_cache import Cache
from gen_core.volume import Sample, Scale, VolumeSpec, content_hash
from gen_hyperspectral.phantom import optics
from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposits import LABEL, ceiling_record, deposit_map, draw_deposits
from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels, draw_visit
from gen_hyperspectral.phantom.render import MASKS, fields, picture, pixel_mm

VERSION = 1  # of the picture: raise it when a volume would come out differently
DEFAULT_SIZE = (16, 64, 64)
SPLITS = ("train", "val", "test")
_GREEN_NM = 555.0  # the band of a phantom with one band: vessels show best there

Key = tuple[int, int]  # subject, visit


def build(options: RetinaPhantom, context: DatasetContext) -> PhantomDataset:
    """The dataset of `options` at the size, bands and split of `context`."""
    return PhantomDataset(options, context)


def default_wavelengths(depth: int) -> tuple[float, ...]:
    """`depth` bands equally spaced from 450 to 900 nm; a single band is 555 nm."""
    return (_GREEN_NM,) if depth == 1 else tuple(float(v) for v in np.linspace(450.0, 900.0, depth))


def calibration(nm: tuple[float, ...]) -> Scale:
    """The fixed scale: reflectance 0 -> -1, the reference white of each band -> +1; depends on nm alone."""
    hi = optics.reference_white(nm).astype(np.float32).reshape(1, -1, 1, 1)
    return Scale(np.zeros_like(hi), hi)


def render(
    options: RetinaPhantom,
    size: tuple[int, int, int],
    nm: tuple[float, ...],
    subject: int,
    visit: int = 0,
    present: bool | None = None,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
    """(x (1, D, H, W) float32 in [-1, 1], masks name -> (1, H, W)) of one volume.

    present: the same eye, light and noise with or without its deposits, whatever label it drew.
    """
    eye = draw_eye(options.seed, subject)
    tree = draw_vessels(options.seed, eye, options.vessel_scale)
    maps = fields(eye, tree, options.seed, size[1:], options.fov_mm)
    deposits = draw_deposits(options, subject, present)
    if deposits is not None:
        maps = evolve(maps, deposits=deposits.amount * deposit_map(options, subject, maps))
    scene = draw_visit(options.seed, subject, visit)
    x = np.empty((1, *size), np.float32)
    scale, k, bands = calibration(nm), 0, np.array(nm)
    for block in picture(eye, scene, maps, bands, options.fov_mm, options.noise):
        of = slice(k, k + len(block))
        block *= 2.0 / scale.hi[0, of]
        block -= 1.0
        np.clip(block[:, :, ::-1] if eye.mirrored else block, -1.0, 1.0, out=x[0, of])
        k += len(block)
    turn = (lambda m: m[:, ::-1]) if eye.mirrored else (lambda m: m)
    return x, {name: np.ascontiguousarray(turn(maps.masks[name]))[None] for name in MASKS}


def describe(options: RetinaPhantom, subject: int, size: tuple[int, int, int] = DEFAULT_SIZE) -> dict[str, Any]:
    """The true parameters of an eye: those of `Eye` as drawn (mm, before mirroring) and its places in the picture.

    Where the data set has deposits, `deposits` holds those of this eye.

    Pixels are (row, column) in units of pixels from the upper left corner, after mirroring: `disc_px`, `fovea_px`.
    """
    eye = draw_eye(options.seed, subject)
    px = pixel_mm(size[1:], options.fov_mm)

    def place(p: tuple[float, float]) -> tuple[float, float]:
        x = -p[0] if eye.mirrored else p[0]
        return p[1] / px + size[1] / 2, x / px + size[2] / 2

    deposits = draw_deposits(options, subject)
    return {
        **eye.to_json(),
        **({LABEL: asdict(deposits)} if deposits is not None else {}),
        "pixel_mm": px,
        "disc_px": place(eye.disc),
        "fovea_px": place(eye.fovea),
        "disc_radii_px": (eye.disc_radii[1] / px, eye.disc_radii[0] / px),
    }


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


class PhantomSplit(Split):
    """Volumes of some subjects; stored ones are checked against their hash when first read, and made anew if bad."""

    def __init__(self, dataset: PhantomDataset, name: str):
        self.dataset, self.name = dataset, name
        o = dataset.options
        keys = [(s, v) for s in dataset.subjects[name] for v in range(o.volumes_per_subject)]
        self.keys: list[Key] = keys[: dataset.context.limit] if dataset.context.limit else keys
        nbytes = 4 * len(self.keys) * int(np.prod(dataset.size))
        self.cache: Cache | None = None
        if self.keys and nbytes <= o.cache_gib * 2**30:
            folder = dataset.context.cache / "retina-phantom" / f"{name}-{_digest(dataset, self.keys)}"
            self.cache = Cache(folder, (1, *dataset.size), MASKS, len(self.keys), self._render, o.workers)

    def __len__(self) -> int:
        return len(self.keys)

    def _render(self, i: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
        return render(self.dataset.options, self.dataset.size, self.dataset.nm, *self.keys[i])

    def __getitem__(self, i: int) -> Sample:
        i = range(len(self.keys))[i]  # IndexError beyond the end, negative from the end
        subject, visit = self.keys[i]
        if self.cache is not None:
            x, masks, digest = self.cache.read(i)
        else:
            x, masks = self._render(i)
            digest = content_hash(x)
        eye = draw_eye(self.dataset.options.seed, subject)
        name = subject_name(subject)
        return Sample(
            x=x,
            id=name if self.dataset.options.volumes_per_subject == 1 else f"{name}-visit{visit}",
            subject=name,
            hash=digest,
            scale=self.dataset.spec.scale,
            masks=masks,
            condition={"age": eye.age, "melanin": eye.melanin, **self._label(subject)},
        )

    def _label(self, subject: int) -> dict[str, np.float32]:
        """1 where the eye has deposits, 0 where not; empty in a data set without that label."""
        found = draw_deposits(self.dataset.options, subject)
        return {} if found is None else {LABEL: np.float32(found.present)}

    def view(self, i: int, draw: int) -> Sample:
        """Volume i, mirrored or not as (seed, i, draw) decides when `augment` has "flip"; masks move along."""
        sample = self[i]
        if "flip" not in self.dataset.options.augment:
            return sample
        if view_generator(self.dataset.context.seed, i, draw).random() < 0.5:
            return sample
        flip: Callable[[NDArray], NDArray] = lambda a: np.ascontiguousarray(a[..., ::-1])
        return evolve(sample, x=flip(sample.x), masks={k: flip(m) for k, m in sample.masks.items()})


def subject_name(subject: int) -> str:
    return f"eye-{subject:05d}"


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


def _digest(dataset: PhantomDataset, keys: list[Key]) -> str:
    """Names a cache entry: everything the volumes of a split depend on."""
    o = asdict(dataset.options)
    for name in ("subjects", "augment", "cache_gib", "workers", "volumes_per_subject"):  # keys say which eyes
        del o[name]
    if dataset.options.deposits == 0:  # eyes without them keep the entries they had before there were any
        for name in ("deposits", "deposit_strength", "deposit_spread"):
            del o[name]
    what = {"version": VERSION, "options": o, "size": dataset.size, "nm": dataset.nm, "keys": keys}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
