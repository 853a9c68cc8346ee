"""Who is in which split: whole subjects by a seeded draw; one subject alone is cut into regions with a gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from gen_core.errors import DataError
from gen_core.options import SplitOptions

NAMES = ("train", "val", "test")


@frozen
class Region:
    """Rows y0..y1 and columns x0..x1 of a cube."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        return (self.y1 - self.y0, self.x1 - self.x0)


def split_subjects(subjects: Sequence[str], options: SplitOptions) -> dict[str, list[str]]:
    """Subject names of train, val and test: disjoint, drawn by `split.seed`, independent of the given order.

    A split that is wanted (fraction > 0) gets at least one subject. Raises: DataError when there are too few.
    """
    names = sorted(set(subjects))
    wanted = {"val": options.val, "test": options.test}
    sizes = {name: max(1, round(share * len(names))) if share > 0 else 0 for name, share in wanted.items()}
    rest = len(names) - sum(sizes.values())
    if rest < 1:
        asked = ", ".join(f"{n} {name}" for name, n in sizes.items() if n)
        raise DataError(f"{len(names)} subjects cannot be split into train, {asked}: change split.val or split.test")
    order = [names[i] for i in np.random.default_rng(options.seed).permutation(len(names))]
    val, test = order[: sizes["val"]], order[sizes["val"] : sizes["val"] + sizes["test"]]
    return {"train": sorted(order[sizes["val"] + sizes["test"] :]), "val": sorted(val), "test": sorted(test)}


def split_regions(size: tuple[int, int], crop: tuple[int, int], options: SplitOptions, name: str) -> dict[str, Region]:
    """Disjoint regions of one cube (Y, X) along its longer axis, each at least a crop wide.

    The gap between regions is split.gap; 0 means a quarter of the crop, or less where there is no room, but at
    least one pixel. Raises: DataError when the cube is too small.
    """
    along = int(size[1] >= size[0])  # 1 = columns
    length, least, other = size[along], crop[along], size[1 - along]
    shares = {n: s for n, s in (("train", None), ("val", options.val), ("test", options.test)) if s is None or s > 0}
    gaps = len(shares) - 1
    room = length - least * len(shares)
    least_gap = max(1, options.gap)
    if other < crop[1 - along] or room < gaps * least_gap:
        raise DataError(
            f"{name}: {size[0]} x {size[1]} pixels are too few for {len(shares)} regions of at least "
            f"{crop[0]} x {crop[1]} with gaps of {least_gap}: make dataset.crop.size or split.gap smaller"
        )
    gap = options.gap or max(1, min(least // 4, room // gaps if gaps else 1))
    free = length - gap * gaps
    widths = {n: max(least, round(s * free)) for n, s in shares.items() if s is not None}
    widths["train"] = free - sum(widths.values())
    if widths["train"] < least:  # large fractions: give back to train what it needs
        missing = least - widths["train"]
        for n in sorted((n for n in widths if n != "train"), key=lambda n: -widths[n]):
            give = min(missing, widths[n] - least)
            widths[n], missing = widths[n] - give, missing - give
        widths["train"] = free - sum(w for n, w in widths.items() if n != "train")
    regions, at = {}, 0
    for n in NAMES:
        if n in widths:
            end = at + widths[n]
            regions[n] = Region(0, size[0], at, end) if along else Region(at, end, 0, size[1])
            at = end + gap
    return regions


def crop_positions(region: Region, crop: tuple[int, int], n: int, seed: int) -> list[tuple[int, int]]:
    """Up to n different crop corners (y, x) inside a region, a function of the seed; fewer where there are fewer."""
    tall, wide = region.shape[0] - crop[0] + 1, region.shape[1] - crop[1] + 1
    if tall < 1 or wide < 1:
        return []
    picks = np.random.default_rng(abs(seed)).choice(tall * wide, min(n, tall * wide), replace=False)
    return [(region.y0 + int(p) // wide, region.x0 + int(p) % wide) for p in np.sort(picks)]
