"""Rings: one volume a subject, made from (seed, subject) alone."""

from __future__ import annotations

import numpy as np
from gen_core.dataset import Dataset, DatasetContext, Split, view_generator
from gen_core.volume import Sample, VolumeSpec, content_hash

from gen_example.options import Rings


class RingData(Dataset):
    """Random rings, split by subject."""

    def __init__(self, options: Rings, context: DatasetContext):
        size = context.volume.size or (4, 16, 16)
        self.spec = VolumeSpec(size=size, depth="slices", units="none", masks=("ring",))
        self.options, self.seed = options, context.seed
        order = np.random.default_rng([context.split.seed, 1]).permutation(options.subjects)
        val = max(1, round(context.split.val * options.subjects))
        self.subjects = {"val": order[:val], "train": order[val:], "test": order[:0]}
        if context.limit:
            self.subjects = {name: s[: context.limit] for name, s in self.subjects.items()}

    def split(self, name: str) -> Split:
        return RingSplit(self, self.subjects[name])

    def prepare(self, progress=None):
        splits = {n: {"volumes": len(s), "subjects": s.tolist()} for n, s in self.subjects.items()}
        return {"splits": splits, "notes": ["rings are drawn, not read"]}

    def draw(self, subject: int) -> Sample:
        """The volume of one subject: x (1, D, H, W) in [-1, 1], with its mask."""
        rng = np.random.default_rng([self.seed, 2, int(subject)])
        d, h, w = self.spec.size
        y, x = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j]
        centre, radius = rng.uniform(0.4, 0.6, 2), rng.uniform(0.15, 0.35)
        off = np.abs(np.hypot(y - centre[0], x - centre[1]) - radius)
        ring = np.clip(1 - off / self.options.width, 0, 1)
        bright = np.linspace(0.5, 1.0, d)[:, None, None]
        volume = (2 * bright * ring - 1).astype(np.float32)[None]
        name = f"ring-{subject:04d}"
        masks = {"ring": (ring > 0.5)[None]}
        return Sample(volume, id=name, subject=name, hash=content_hash(volume), masks=masks)


class RingSplit(Split):
    """The volumes of some subjects; its views are mirrored at random."""

    def __init__(self, data: RingData, subjects: np.ndarray):
        self.data, self.subjects = data, subjects

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, i: int) -> Sample:
        return self.data.draw(self.subjects[i])

    def view(self, i: int, draw: int) -> Sample:
        sample = self[i]
        if view_generator(self.data.seed, i, draw).random() < 0.5:
            sample.x = sample.x[..., ::-1].copy()
            sample.masks = {name: mask[..., ::-1].copy() for name, mask in sample.masks.items()}
        return sample
