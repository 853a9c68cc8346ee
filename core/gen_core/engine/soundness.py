"""What must not be kept: NaN in any state, infinity in weights, their averages or the optimizer's moments.

A buffer may be infinite (a running minimum starts so), a parameter never.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch


def unsound(tensors: Mapping[str, Tensor], may_be_infinite: Collection[str] = ()) -> str:
    """The first of these tensors that must not be kept, and why: "'layer.weight' became NaN"; "" when all are sound."""
    for name, value in tensors.items():
        if not value.is_floating_point() or bool(value.isfinite().all()):
            continue
        if bool(value.isnan().any()):
            return f"'{name}' became NaN"
        if name not in may_be_infinite:
            return f"'{name}' became infinite"
    return ""


def unsound_state(
    module: torch.nn.Module,
    weights: Mapping[str, Tensor],
    ema: Mapping[str, Tensor] | None = None,
    optimizers: Mapping[str, Mapping[str, Tensor]] | None = None,
    extra_state: Any = None,
) -> str:
    """The first thing that must not be kept of what a checkpoint holds, in words; "" when all is sound."""
    buffers = {name for name, _ in module.named_buffers()}
    found = unsound(weights, buffers)
    if not found and ema:
        found = unsound(ema).replace("'", "the average of '", 1)
    for group, state in (optimizers or {}).items():
        found = found or unsound(state).replace("'", f"the optimizer of '{group}': '", 1)
    if not found and extra_state:
        try:
            json.dumps(extra_state, allow_nan=False)
        except ValueError:
            found = "a number of its extra state became NaN or infinite"
    return found


def unsound_samples(batch: Batch) -> list[str]:
    """The ids of the samples whose values are not all finite."""
    fine = batch.x.isfinite().flatten(1).all(1).tolist()
    return [id_ for id_, good in zip(batch.ids, fine) if not good]
