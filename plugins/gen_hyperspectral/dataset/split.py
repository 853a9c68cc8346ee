"""The samples of one split: whole cubes or crops of what is cached, scaled, and augmented for training."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.dataset import Split, view_generator
from gen_core.splits import Region, crop_positions
from gen_core.volume import Geometry, Sample
from gen_core.volume_cache import key_of
from gen_hyperspectral.dataset.sources import Source
from gen_hyperspectral.prepare.area_resize import area_resize, resize_valid
from gen_hyperspectral.prepare.augment import mirror_and_turn


@frozen(eq=False)
class Item:
    """One volume of a split: a cube, or a crop of it at `corner` (y, x) inside `region`."""

    source: Source
    region: Region | None = None
    corner: tuple[int, int] | None = None


def find_items(dataset: Any, name: str) -> list[Item]:
    """What a split of a data set holds, by source. Raises: DataError where a cube is too small for its crops."""
    items: list[Item] = []
    options, context = dataset.options, dataset.context
    for source in dataset.assigned[name]:
        if context.limit and len(items) >= context.limit:
            break
        size = dataset.source_size(source) if options.crop.size or options.unreadable == "skip" else ()
        if size is None:
            continue
        if not options.crop.size:
            items.append(Item(source))
            continue
        region = dataset.regions(source, size).get(name)
        if region is None:
            continue
        seed = int(key_of(seed=context.split.seed, id=source.id, split=name)[:12], 16)
        corners = crop_positions(region, options.crop.size, options.crop.per_volume, seed)
        items += [Item(source, region, corner) for corner in corners]
    return items[: context.limit] if context.limit else items


class CubeSplit(Split):
    """Volumes of one split. `view` draws crops and augmentation in the training split only."""

    def __init__(self, dataset: Any, name: str, items: list[Item]):
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
        array, facts = dataset.cached.volume(source)
        masks = {name: dataset.cached.mask(source, name) for name in options.masks}
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
        size = dataset.size
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
