"""A batch: samples stacked into tensors, on their way to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from attrs import Factory, define, evolve
from torch import Tensor

from gen_core.volume import Sample


@define(eq=False)
class Batch:
    """Tensors with a leading batch axis, and who they are.

    x: (B, C, D, H, W) float32 in [-1, 1]; the latents z when a prior is fitted.
    reference: what x should equal (for reconstructions). masks: name -> (B, 1, D or 1, H, W) bool.
    condition: name -> tensor; present: name -> (B,) bool, for guidance.
    """

    x: Tensor
    ids: list[str] = Factory(list)
    subjects: list[str] = Factory(list)
    hashes: list[str] = Factory(list)
    reference: Tensor | None = None
    masks: dict[str, Tensor] = Factory(dict)
    condition: dict[str, Tensor] = Factory(dict)
    present: dict[str, Tensor] = Factory(dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        move = lambda d: {k: v.to(device, non_blocking=True) for k, v in d.items()}
        return evolve(
            self,
            x=self.x.to(device, non_blocking=True),
            reference=None if self.reference is None else self.reference.to(device, non_blocking=True),
            masks=move(self.masks),
            condition=move(self.condition),
            present=move(self.present),
        )

    def part(self, start: int, stop: int) -> Batch:
        """Samples start..stop of this batch."""
        cut = lambda d: {k: v[start:stop] for k, v in d.items()}
        return Batch(
            self.x[start:stop],
            self.ids[start:stop],
            self.subjects[start:stop],
            self.hashes[start:stop],
            None if self.reference is None else self.reference[start:stop],
            cut(self.masks),
            cut(self.condition),
            cut(self.present),
        )

    def take(self, rows: Sequence[int]) -> Batch:
        """Some samples of this batch, in that order."""
        rows = list(rows)
        pick = lambda d: {k: v[rows] for k, v in d.items()}
        name = lambda names: [names[i] for i in rows] if names else []
        return Batch(
            self.x[rows],
            name(self.ids),
            name(self.subjects),
            name(self.hashes),
            None if self.reference is None else self.reference[rows],
            pick(self.masks),
            pick(self.condition),
            pick(self.present),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one shape. A mask that some samples lack is left out."""
    names = set.intersection(*(set(s.masks) for s in samples)) if samples else set()
    keys = set.intersection(*(set(s.condition) for s in samples)) if samples else set()
    stack = lambda arrays: torch.stack([torch.as_tensor(a) for a in arrays])
    return Batch(
        x=stack([s.x for s in samples]),
        ids=[s.id for s in samples],
        subjects=[s.subject for s in samples],
        hashes=[s.hash for s in samples],
        masks={k: stack([s.masks[k] for s in samples]).unsqueeze(1) for k in sorted(names)},
        condition={k: stack([s.condition[k] for s in samples]) for k in sorted(keys)},
        present={k: torch.tensor([known(s.condition[k]) for s in samples]) for k in sorted(keys)},
    )


def samples_of(batch: Batch) -> list[Sample]:
    """The volumes of a batch one by one, with their masks and what is known of their conditions."""
    values = {k: v.cpu() for k, v in batch.condition.items()}
    present = {k: v.tolist() for k, v in batch.present.items()}
    masks = {k: v[:, 0].cpu().numpy() for k, v in batch.masks.items()}
    x, names = batch.x.cpu().numpy(), batch.ids or [""] * len(batch)
    return [
        Sample(
            x[i],
            id=names[i],
            subject=batch.subjects[i] if batch.subjects else names[i],
            hash=batch.hashes[i] if batch.hashes else "",
            masks={k: v[i] for k, v in masks.items()},
            condition={k: v[i].item() for k, v in values.items() if k not in present or present[k][i]},
        )
        for i in range(len(batch))
    ]


def known(value: Any) -> bool:
    """Whether a condition value of a sample says something: a class other than -1, a number other than NaN."""
    return value >= 0 if isinstance(value, int | np.integer) else bool(np.isfinite(value).all())
