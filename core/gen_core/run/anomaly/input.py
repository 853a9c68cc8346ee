"""The volumes in which anomalies are looked for: a split of a run's own data set, or files read as that data set reads.

Their masks of the truth come with them, where there are any, and what the prior is told of them.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import evolve, field, frozen
from numpy.lib.format import open_memmap

from gen_core.component import said
from gen_core.condition import VECTORS, Conditions
from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, UsageError
from gen_core.options import SplitOptions
from gen_core.recipe import Recipe
from gen_core.registry import did_you_mean
from gen_core.run.conditioning import with_values
from gen_core.run.context import RunContext
from gen_core.run.samples.conditions import SampleConditions, read_mask
from gen_core.volume import Sample, VolumeSpec

SPLITS = ("train", "val", "test")
OF_DATA = ("tables", "volume", "split")  # parts of a recipe that decide what a data set delivers
NOT_TRUTH = "valid"  # the mask that says where data are
EMPTY, OWN = "empty", "own"  # values of --condition: a mask without a voxel; what the volume itself has


@frozen
class Input:
    """Volumes in order. truth: the name of the mask that marks anomalies, "" for none. said: one line each."""

    samples: Sequence[Sample]
    truth: str
    source: str
    said: list[str] = field(factory=list)

    def mask(self, sample: Sample) -> np.ndarray | None:
        """Where the anomalies of a volume are, (D, H, W) bool; None where nothing is known."""
        found = sample.masks.get(self.truth) if self.truth else None
        return None if found is None else np.broadcast_to(found, sample.x.shape[1:])


def open_input(
    ctx: RunContext, recipe: Recipe, where: str, masks: str | None = None, mask: str | None = None, limit: int = 0
) -> Input:
    """The volumes of `where`: a split's name, or a file or folder for the run's data set and its settings.

    recipe: the run's, where `dataset` may be another. masks: a file, a folder, or a pattern with {id} and {stem}, of
    the masks. mask: which mask marks the anomalies. limit: so many volumes at most; 0 = all.
    Raises: DataError, UsageError.
    """
    said: list[str] = []
    if where in SPLITS:
        other = ctx if recipe is ctx.recipe else ctx.with_recipe(**{k: getattr(recipe, k) for k in OF_DATA})
        samples: Sequence[Sample] = other.split(where)
        source, mine = where, masks is not None
        if other is not ctx:
            samples = _fitting(samples, other.spec, ctx, where)
    else:
        path = Path(where).expanduser()
        source = str(path)
        samples, mine = _from_path(ctx, recipe, path, masks, mask or "anomaly", said)
    if masks:
        mask = mask or "anomaly"
    if mine:
        samples = _WithMasks(samples, str(masks), str(mask), ctx)
    if limit:
        samples = _First(samples, limit)
    if len(samples) == 0:
        raise DataError(f"{where}: no volumes")
    return Input(samples, _truth(samples[0], mask, said), source, said)


def _truth(first: Sample, asked: str | None, said: list[str]) -> str:
    """The mask that marks anomalies: the one asked for, or the only one."""
    names = [name for name in first.masks if name != NOT_TRUTH]
    if asked:
        if asked not in names:
            near, there = did_you_mean(asked, names), ", ".join(names) or "none"
            raise UsageError(f"--mask {asked}: no such mask; there are: {there}{near}")
        return asked
    if len(names) > 1:
        said.append(f"nothing is scored: say by --mask which of these marks anomalies: {', '.join(names)}")
    return names[0] if len(names) == 1 else ""


def _from_path(
    ctx: RunContext, recipe: Recipe, path: Path, masks: str | None, mask: str, said: list[str]
) -> tuple[Sequence[Sample], bool]:
    """The volumes of a file or folder, and whether the masks are still to be read."""
    table = recipe.table("dataset")
    options, fields = table.options, {f.name for f in attrs.fields(type(table.options))}
    if not path.exists():
        raise DataError(f"{path}: no such file or folder, and no split ({', '.join(SPLITS)})")
    if "root" not in fields:
        raise UsageError(
            f"--input {path}: the data set '{table.use}' of this run reads no files; name a split, or another data set "
            f"by --set dataset.use=NAME"
        )
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    changes: dict[str, Any] = {"root": str(folder)}
    if path.is_file() and "pattern" in fields:
        changes["pattern"] = glob.escape(path.name)
    if {"table", "scalars", "classes"} <= fields and options.table and not (folder / options.table).is_file():
        changes |= {"table": "", "scalars": (), "classes": {}}
        said.append(f"{folder / options.table}: not there; nothing is known of the volumes but themselves")
    finds = bool(masks) and "mask_files" in fields  # this data set brings masks to the volumes' grid itself
    if finds:
        changes["mask_files"] = {**options.mask_files, mask: _pattern(str(masks), path)}
        changes["masks"] = tuple(dict.fromkeys((*options.masks, mask)))
    context = DatasetContext(
        volume=attrs.evolve(recipe.volume, size=ctx.spec.size, wavelengths_nm=ctx.spec.wavelength_nm),
        split=SplitOptions(val=0.0),  # all of it in "train": nothing is fitted to it
        seed=ctx.seed,
        cache=ctx.cache,
    )
    made = table.component.build(attrs.evolve(options, **changes), context)
    return _fitting(made.split("train"), made.spec, ctx, str(path)), bool(masks) and not finds


def _fitting(samples: Sequence[Sample], spec: VolumeSpec, ctx: RunContext, where: str) -> Sequence[Sample]:
    """Volumes of another data set for this run. Raises: DataError when they are of another shape."""
    if spec.shape != ctx.spec.shape:
        raise DataError(f"{where}: volumes are {spec.shape}, those of the run {ctx.spec.shape}")
    return _OnScale(samples, ctx)


def _pattern(masks: str, image: Path) -> str:
    """A file or folder of masks as the pattern of a data set that finds masks by {id} and {stem}."""
    path = Path(masks).expanduser().absolute()
    if "{" in masks:
        return str(path)
    if not path.exists():
        raise DataError(f"{masks}: no such file or folder")
    if path.is_file():
        if image.is_dir():
            raise UsageError(
                f"--masks {masks}: one file for a folder of volumes; name a folder, or use {{id}}, {{stem}}"
            )
        return str(path)
    packed = any(path.rglob("*.nii.gz")) or not any(path.rglob("*.nii"))
    return str(path / ("{id}.nii.gz" if packed else "{id}.nii"))


class _First(Sequence[Sample]):
    """The first n of some volumes."""

    def __init__(self, samples: Sequence[Sample], n: int):
        self.samples, self.n = samples, min(n, len(samples))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        return self.samples[range(self.n)[i]]


class _OnScale(Sequence[Sample]):
    """Volumes on the run's scale, where all its volumes share one; else each on its own, as the run's are."""

    def __init__(self, samples: Sequence[Sample], ctx: RunContext):
        self.samples, self.scale = samples, ctx.spec.scale
        first = ctx.split("train")[0].scale
        self.shared = np.array_equal(first.lo, self.scale.lo) and np.array_equal(first.hi, self.scale.hi)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        sample = self.samples[i]
        theirs, ours = sample.scale, self.scale
        if not self.shared or (np.array_equal(theirs.lo, ours.lo) and np.array_equal(theirs.hi, ours.hi)):
            return sample
        x = np.clip(ours.to_unit(theirs.to_physical(sample.x)), -1, 1).astype(np.float32)
        return evolve(sample, x=x, scale=ours)


class _WithMasks(Sequence[Sample]):
    """Volumes with masks from files of volume size; a volume without a file has an empty mask."""

    def __init__(self, samples: Sequence[Sample], masks: str, name: str, ctx: RunContext):
        self.samples, self.masks, self.name, self.ctx = samples, masks, name, ctx

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        sample = self.samples[i]
        file = self._file(sample)
        size = self.ctx.spec.size
        found = _read(file, size, self.ctx.registry) if file else np.zeros(size, bool)
        return evolve(sample, masks={**sample.masks, self.name: found})

    def _file(self, sample: Sample) -> Path | None:
        path = Path(self.masks).expanduser()
        if "{" in self.masks:
            path = Path(str(path).replace("{id}", sample.id).replace("{stem}", Path(sample.id).name))
            return path if path.is_file() else None
        if path.is_file():
            if len(self.samples) > 1:
                raise UsageError(f"--masks {self.masks}: one file for {len(self.samples)} volumes; name a folder")
            return path
        if not path.is_dir():
            raise DataError(f"{self.masks}: no such file or folder")
        near = sorted(path.glob(f"{glob.escape(sample.id)}.*"))
        return near[0] if near else None


def _read(file: Path, size: tuple[int, int, int], registry: Any) -> np.ndarray:
    """A mask (D, H, W) bool; .npy files as (D, H, W), as maps are written, the rest in the order of its format."""
    if file.suffix == ".npy":
        try:
            array = open_memmap(file, mode="r")  # of nothing but a .npy file, and of no more than it holds
        except Exception as error:  # a damaged header raises ValueError, EOFError, SyntaxError, TokenError, ...
            raise DataError(f"{file}: cannot be read ({said(error)})") from None
        if array.shape == tuple(size) and array.dtype.kind in "buif":
            return array != 0
    return read_mask(file, size, registry)


class Told:
    """What the prior is told of the volumes: values that hold for all, or each volume's own; else nothing.

    A volume's own masks are not told unless asked for: they would give the anomalies away.
    """

    def __init__(self, ctx: RunContext, given: dict[str, str]):
        self.tables, self.conditioner = ctx.recipe.conditions, ctx.conditioner() if ctx.recipe.conditions else None
        self.own = [name for name, value in given.items() if value == OWN]
        self.empty = [name for name, value in given.items() if value == EMPTY]
        fixed = {name: value for name, value in given.items() if value not in (OWN, EMPTY)}
        unknown = [name for name in given if name not in self.tables]
        if unknown:
            near, declared = did_you_mean(unknown[0], self.tables), ", ".join(self.tables) or "none"
            raise UsageError(f"--condition {unknown[0]}: not declared by this run; there are: {declared}{near}")
        wrong = [name for name in self.empty if self.tables[name].kind != "mask"]
        if wrong:
            raise UsageError(f"--condition {wrong[0]}={EMPTY}: only a mask can be empty")
        self.values: dict[str, Any] = {}
        self.masks: dict[str, np.ndarray] = {self._of(name): np.zeros((1, 1, 1), bool) for name in self.empty}
        if fixed:
            told = ctx.with_recipe(sample=evolve(ctx.recipe.sample, conditions="none", fixed=fixed))
            values, masks = SampleConditions(told, 0).fixed
            self.values, self.masks = values, {**self.masks, **masks}

    def _of(self, name: str) -> str:
        return self.tables[name].of or name

    def of(self, samples: Sequence[Sample]) -> Conditions | None:
        """The conditions of these volumes, None for a prior without any; of kind "volume" they are always their own."""
        if self.conditioner is None:
            return None
        carriers = []
        for sample in samples:
            own = [self._of(name) for name in self.own if self.tables[name].kind in VECTORS]
            seen = [self._of(name) for name in self.own if self.tables[name].kind == "mask"]
            kept = evolve(
                sample,
                condition={name: sample.condition[name] for name in own if name in sample.condition},
                masks={name: sample.masks[name] for name in seen if name in sample.masks},
            )
            carriers.append(with_values(kept, self.values, self.masks))
        return self.conditioner.of(carriers)
