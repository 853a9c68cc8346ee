"""The samples of one split: whole volumes, blocks or slices of what is cached, scaled, and augmented for training."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.dataset import Split, view_generator
from gen_core.errors import DataError
from gen_core.splits import Box, box_positions
from gen_core.volume import Geometry, Sample
from gen_core.volume_cache import key_of
from gen_radiology.datasets import crop_pad, hu
from gen_radiology.sources.source import Source
from gen_radiology.volumes import resample

Size = tuple[int, int, int]


@frozen(eq=False)
class Item:
    """One volume of a split: a whole one, or the block at `corner` (z, y, x) inside `box`."""

    source: Source
    box: Box | None = None
    corner: Size | None = None


def within(box: Box) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(box.low, box.high))


def find_items(dataset: Any, name: str) -> list[Item]:
    """What a split of a data set holds, by source. Raises: DataError where nothing is left of it."""
    items: list[Item] = []
    limit, options = dataset.context.limit, dataset.options
    for source in dataset.assigned[name]:
        if limit and len(items) >= limit:
            break
        if not dataset.usable(source):
            continue
        if options.crop.size is None and not options.slices:
            items.append(Item(source))
            continue
        box = dataset.boxes(source).get(name)
        if box is None:
            continue
        if options.slices:
            items += [Item(source, box, (z, 0, 0)) for z in range(box.low[0], box.high[0])]
            continue
        assert options.crop.size is not None
        seed = int(key_of(seed=dataset.context.split.seed, id=source.id, split=name)[:12], 16)
        corners = box_positions(box, options.crop.size, options.crop.per_volume, seed)
        items += [Item(source, box, corner) for corner in corners]
    wanted = {"train": 1.0, "val": dataset.context.split.val, "test": dataset.context.split.test}[name]
    if wanted > 0 and not items:
        raise DataError(f"dataset.root: nothing is left for the split '{name}': {_why_skipped(dataset)}")
    return items[:limit] if limit else items


def _why_skipped(dataset: Any) -> str:
    first = next(iter(dataset.skipped.values()), "no source falls into it")
    return f"{len(dataset.skipped)} of {len(dataset.sources)} volumes cannot be read; {first}"


class VolumeSplit(Split):
    """Volumes of one split. `view` draws blocks and augmentation in the training split only."""

    def __init__(self, dataset: Any, name: str, items: list[Item]):
        self.dataset, self.name, self.items = dataset, name, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        item = self.items[i]
        return self._sample(item, item.corner, None)

    def view(self, i: int, draw: int) -> Sample:
        """Training: block and augmentation from (seed, i, draw); other splits: the plain volume."""
        if self.name != "train":
            return self[i]
        item, rng = self.items[i], view_generator(self.dataset.context.seed, i, draw)
        corner = item.corner
        if item.box is not None and not self.dataset.options.slices:
            corner = self._drawn(item, item.box, rng)
        return self._sample(item, corner, rng)

    def _drawn(self, item: Item, box: Box, rng: np.random.Generator) -> Size:
        """A corner inside the box: anywhere, or so that the block holds a voxel of dataset.crop.at_mask."""
        options = self.dataset.options.crop
        assert options.size is not None
        z, y, x = (a + int(rng.integers(n - c + 1)) for a, n, c in zip(box.low, box.shape, options.size))
        if options.at_mask and rng.random() < options.at_share:
            mask = self.dataset.cached.masks(item.source)[0][options.at_mask][within(box)]
            voxels = np.argwhere(mask)
            if len(voxels):
                voxel = voxels[rng.integers(len(voxels))] + box.low
                low = np.maximum(voxel - np.array(options.size) + 1, box.low)
                high = np.minimum(voxel, np.array(box.high) - options.size)
                z, y, x = (int(rng.integers(a, b + 1)) for a, b in zip(low, high))
        return (z, y, x)

    def _sample(self, item: Item, corner: Size | None, rng: np.random.Generator | None) -> Sample:
        dataset, options, source = self.dataset, self.dataset.options, item.source
        array, facts = dataset.cached.volume(source)
        masks, _ = dataset.cached.masks(source)
        affine, history = np.array(facts["affine"]), list(facts["history"])
        id, digest, block = source.told, facts["content"], array.shape
        if corner is not None:
            block = options.crop.size or (1, *array.shape[1:])
            at = ",".join(map(str, corner if not options.slices else corner[:1]))
            id, digest = f"{id}@{at}", hashlib.sha256(f"{digest} {corner} {block}".encode()).hexdigest()
            history.append(crop_pad.describe(array.shape, corner, block, "slice" if options.slices else "block"))
        start: Size = corner or (0, 0, 0)
        if rng is not None and any(options.shift) and options.crop.size is None:
            moved = [int(rng.integers(-m, m + 1)) for m in options.shift]
            start = (start[0] + (0 if options.slices else moved[0]), start[1] + moved[1], start[2] + moved[2])
        volume = crop_pad.cut(array, start, block)
        named = {name: crop_pad.cut(mask, start, block) for name, mask in masks.items()}
        affine = crop_pad.moved(affine, start)
        if block != dataset.size:
            grid = resample.size_grid(block, dataset.size)
            volume, affine = resample.resample(volume, grid), affine @ grid.matrix
            named = {name: resample.resample_mask(m, grid, options.resample_masks) for name, m in named.items()}
            history.append(f"resampled to {' x '.join(map(str, dataset.size))}")
        condition = dataset.condition(source, affine, dataset.size)
        scale = dataset.scales.own(source)
        x, valid = hu.to_unit(volume, scale, options.pad)
        named = {"valid": valid, **named}
        if rng is not None:
            x, named, affine = mirror(x, named, affine, options.augment, rng)
        return Sample(
            x=np.ascontiguousarray(x, np.float32),
            id=id,
            subject=source.told_subject,
            hash=digest,
            scale=scale,
            geometry=Geometry(affine, tuple(history)),
            masks={name: np.ascontiguousarray(mask) for name, mask in named.items()},
            condition=condition,
        )


def mirror(
    x: np.ndarray, masks: dict[str, np.ndarray], affine: np.ndarray, names: tuple[str, ...], rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Mirror along the axes of `names` at random, masks and affine alike. The draws do not depend on the names."""
    turned = [rng.random() < 0.5 and name in names for name in ("flip_d", "flip_h", "flip_w")]
    cut = tuple(slice(None, None, -1 if t else 1) for t in turned)
    matrix = np.diag([*(-1.0 if t else 1.0 for t in turned), 1.0])
    matrix[:3, 3] = [n - 1 if t else 0 for n, t in zip(x.shape[1:], turned)]
    return x[(slice(None), *cut)], {name: mask[cut] for name, mask in masks.items()}, affine @ matrix
