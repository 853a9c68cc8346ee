"""The arithmetic of forward passes: float32, or bfloat16 where autocast deems it safe."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager[object]:
    """The context a forward pass runs in. precision: "float32" or "bf16".

    Weights, gradients and optimizer state stay float32; layers that need float32 switch autocast off inside.
    """
    if precision == "float32":
        return nullcontext()
    assert precision == "bf16", precision
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def float32_island(device: torch.device | str) -> AbstractContextManager[object]:
    """Inside a forward pass: autocast off. The meta device of dry runs has no autocast to switch off."""
    kind = torch.device(device).type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
