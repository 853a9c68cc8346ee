"""Crops of the volumes of a split, for fitting what could not bear them whole."""

from __future__ import annotations

import numpy as np
from attrs import evolve

from gen_core.dataset import Split, view_generator
from gen_core.errors import RecipeError
from gen_core.volume import Sample

PLACE = 0x63726F70  # keeps the place of a crop apart from the draws of the view itself


class CroppedSplit(Split):
    """Each volume cut to `crop` (D, H, W), 0 = the whole axis: views at a place that (seed, i, draw) decides.

    Validation looks at the middle. table: for messages. stride: what crops must be multiples of.
    """

    def __init__(
        self,
        split: Split,
        crop: tuple[int, int, int],
        seed: int,
        table: str,
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        if any(c % s for c, s in zip(crop, stride)) or min(crop) < 0:
            raise RecipeError(
                f"[{table}.fit] crop = {list(crop)}: expected multiples of {list(stride)}, 0 = the whole axis"
            )
        self.split, self.crop, self.seed, self.table = split, crop, seed, table

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        sample = self.split[i]
        room = self._room(sample)
        return _cut(sample, [n // 2 for n in room], self._size(sample))

    def view(self, i: int, draw: int) -> Sample:
        sample = self.split.view(i, draw)
        g = view_generator(self.seed ^ PLACE, i, draw)
        return _cut(sample, [int(g.integers(n + 1)) for n in self._room(sample)], self._size(sample))

    def _size(self, sample: Sample) -> list[int]:
        return [c or n for c, n in zip(self.crop, sample.x.shape[1:])]

    def _room(self, sample: Sample) -> list[int]:
        """How far a crop can move along each axis."""
        room = [n - c for n, c in zip(sample.x.shape[1:], self._size(sample))]
        if min(room) < 0:
            raise RecipeError(
                f"[{self.table}.fit] crop = {list(self.crop)} is larger than the volumes, {list(sample.x.shape[1:])}"
            )
        return room


def _cut(sample: Sample, corner: list[int], size: list[int]) -> Sample:
    """The box of `size` at `corner`, as arrays of its own: the whole volume is let go. Masks may have depth 1."""
    d, h, w = (slice(a, a + n) for a, n in zip(corner, size))
    cut = lambda a: np.array(a[..., d if a.shape[-3] > 1 else slice(None), h, w], order="C")
    return evolve(sample, x=cut(sample.x), masks={name: cut(mask) for name, mask in sample.masks.items()})
