"""Latents of a run on disk, with the conditions of each volume beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gen_core.condition import Conditions
from gen_core.tensor_file import read_tensors


def as_stored(told: list[Conditions], views: int) -> dict[str, Tensor]:
    """Conditions of the batches of all views as tensors (views, N, ...) for a safetensors file."""
    stored: dict[str, Tensor] = {}
    for name in told[0].values if told else ():
        for key, parts in (("value", [t.values[name] for t in told]), ("present", [t.present[name] for t in told])):
            stored[f"{key}.{name}"] = torch.cat(parts).unflatten(0, (views, -1)).contiguous()
    return stored


def stored_latents(folder: Path, split: str) -> tuple[Tensor, Conditions]:
    """z (views, N, c, d, h, w) and the conditions (views, N, ...) that `encode` wrote for a split.

    Raises: DamagedFile naming the file.
    """
    tensors, _ = read_tensors(folder / f"latents-{split}.safetensors")
    named = lambda key: {n.removeprefix(f"{key}."): v for n, v in tensors.items() if n.startswith(f"{key}.")}
    return tensors["z"], Conditions(named("value"), named("present"))
