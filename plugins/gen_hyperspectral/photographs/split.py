"""The photographs of one split, scaled; mirrored and turned for training."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_core.dataset import Split, view_generator
from gen_core.volume import Geometry, Sample
from gen_hyperspectral.photographs.find import Photograph
from gen_hyperspectral.prepare.augment import mirror_and_turn


class PhotographSplit(Split):
    """Photographs of one split; `view` mirrors and turns in the training split only."""

    def __init__(self, dataset: Any, name: str, items: list[Photograph]):
        self.dataset, self.name, self.items = dataset, name, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        return self._sample(self.items[i], None)

    def view(self, i: int, draw: int) -> Sample:
        """Training: augmented as (seed, i, draw) says; other splits: the plain volume."""
        if self.name != "train":
            return self[i]
        return self._sample(self.items[i], view_generator(self.dataset.context.seed, i, draw))

    def _sample(self, photograph: Photograph, rng: np.random.Generator | None) -> Sample:
        dataset = self.dataset
        array, facts = dataset.volume(photograph)
        valid = np.isfinite(array).all(axis=0)
        x = np.clip(dataset.scale.to_unit(np.array(array)[None]), -1.0, 1.0)
        x[:, :, ~valid] = -1.0
        found = {name: dataset.mask(photograph, name) for name in dataset.options.masks if name != "valid"}
        masks = {"valid": valid, **{name: np.array(mask) for name, mask in found.items() if mask is not None}}
        if rng is not None:
            x, masks = mirror_and_turn(x, masks, dataset.options.augment, rng)
        h, w = facts["source_size"]
        return Sample(
            x=np.ascontiguousarray(x, np.float32),
            id=photograph.id,
            subject=photograph.subject,
            hash=facts["content"],
            scale=dataset.scale,
            geometry=Geometry(history=("blue, green, red", f"area {h} x {w} -> {array.shape[1:]}")),
            masks={name: np.ascontiguousarray(mask)[None] for name, mask in masks.items()},
        )
