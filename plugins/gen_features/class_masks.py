"""Classes of a segmenter as unions of data-set masks: what it is trained on, and the scores of a validation step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.volume import VolumeSpec

Classes = Mapping[str, Sequence[str]]
"""Class -> names of the masks whose union it is."""


def check_classes(classes: Classes, spec: VolumeSpec) -> None:
    """Raises: RecipeError when the data set says which masks it has, and one of these is not among them."""
    missing = sorted({m for group in classes.values() for m in group if spec.masks and m not in spec.masks})
    if missing:
        raise RecipeError(
            f"[segmenter] classes: the data set has no mask {', '.join(missing)}; it has {', '.join(spec.masks)}"
        )


def class_targets(classes: Classes, batch: Batch) -> Tensor:
    """(B, K, H, W) float32: the union of each class' masks over depth. Raises: RecipeError when one is missing."""
    found = []
    for name, members in classes.items():
        lacking = [m for m in members if m not in batch.masks]
        if lacking:
            raise RecipeError(f"[segmenter] classes.{name}: the volumes carry no mask {', '.join(lacking)}")
        found.append(torch.stack([batch.masks[m].any(2)[:, 0] for m in members]).any(0))
    return torch.stack(found, 1).float()


def class_scores(names: Sequence[str], p: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Precision, recall and Dice of each class at p >= 0.5, and the precision at 0.95.

    p: (B, K, H, W) probabilities. target: (B, K, H, W) in {0, 1}.
    """
    found: dict[str, Tensor] = {}
    share = lambda a, b: a.sum() / b.sum().clamp(min=1)
    for k, name in enumerate(names):
        true, at, sure = target[:, k] > 0.5, p[:, k] >= 0.5, p[:, k] >= 0.95
        found[f"{name} precision"] = share(at & true, at)
        found[f"{name} recall"] = share(at & true, true)
        found[f"{name} dice"] = 2 * (at & true).sum() / (at.sum() + true.sum()).clamp(min=1)
        found[f"{name} precision at .95"] = share(sure & true, sure)
    return found
