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


@frozen
class Box:
    """A part of a volume (Z, Y, X): from `low` up to, not including, `high`."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        z, y, x = (b - a for a, b in zip(self.low, self.high))
        return (z, y, x)


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
    spans = _spans(size[along], crop[along], options)
    if size[1 - along] < crop[1 - along] or spans is None:
        raise _too_few(size, crop, options, name, "pixels")
    return {n: Region(0, size[0], a, b) if along else Region(a, b, 0, size[1]) for n, (a, b) in spans.items()}


def split_boxes(
    size: tuple[int, int, int], crop: tuple[int, int, int], options: SplitOptions, name: str
) -> dict[str, Box]:
    """Disjoint boxes of one volume (Z, Y, X), each at least a crop wide, with a gap as in `split_regions`.

    The cut runs along the axis that holds most crops side by side, z before y before x where they hold as many.
    Raises: DataError when the volume is too small along every axis.
    """
    if all(n >= c for n, c in zip(size, crop)):
        for along in sorted(range(3), key=lambda k: (-(size[k] // crop[k]), k)):
            spans = _spans(size[along], crop[along], options)
            if spans is not None:
                ends = {n: [(0, length) for length in size] for n in spans}
                for n, span in spans.items():
                    ends[n][along] = span
                return {n: Box(tuple(a for a, _ in e), tuple(b for _, b in e)) for n, e in ends.items()}  # type: ignore[arg-type]
    raise _too_few(size, crop, options, name, "voxels")


def _shares(options: SplitOptions) -> dict[str, float | None]:
    """The wanted splits with their share; that of train is what is left."""
    return {n: s for n, s in (("train", None), ("val", options.val), ("test", options.test)) if s is None or s > 0}


def _spans(length: int, least: int, options: SplitOptions) -> dict[str, tuple[int, int]] | None:
    """(first, end) of each split along one axis of `length`, at least `least` wide; None where there is no room."""
    shares = _shares(options)
    gaps = len(shares) - 1
    room = length - least * len(shares)
    if room < gaps * max(1, options.gap):
        return None
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
    spans, at = {}, 0
    for n in NAMES:
        if n in widths:
            spans[n] = (at, at + widths[n])
            at += widths[n] + gap
    return spans


def _too_few(size: tuple[int, ...], crop: tuple[int, ...], options: SplitOptions, name: str, what: str) -> DataError:
    by = " x ".join
    return DataError(
        f"{name}: {by(map(str, size))} {what} are too few for {len(_shares(options))} regions of at least "
        f"{by(map(str, crop))} with gaps of {max(1, options.gap)}: make dataset.crop.size or split.gap smaller"
    )


def crop_positions(region: Region, crop: tuple[int, int], n: int, seed: int) -> list[tuple[int, int]]:
    """Up to n different crop corners (y, x) inside a region, a function of the seed; fewer where there are fewer."""
    corners = _corners((region.y0, region.x0), region.shape, crop, n, seed)
    return [(y, x) for y, x in corners]


def box_positions(box: Box, crop: tuple[int, int, int], n: int, seed: int) -> list[tuple[int, int, int]]:
    """Up to n different crop corners (z, y, x) inside a box, in rising order, a function of the seed."""
    return [(z, y, x) for z, y, x in _corners(box.low, box.shape, crop, n, seed)]


def _corners(
    low: tuple[int, ...], shape: tuple[int, ...], crop: tuple[int, ...], n: int, seed: int
) -> list[tuple[int, ...]]:
    free = [s - c + 1 for s, c in zip(shape, crop)]
    if min(free) < 1:
        return []
    total = int(np.prod(free, dtype=np.int64))
    picks = np.sort(np.random.default_rng(abs(seed)).choice(total, min(n, total), replace=False))
    return [tuple(a + int(k) for a, k in zip(low, at)) for at in zip(*np.unravel_index(picks, free))]
