"""Steps that can be undone: buffers as they were before, and what running out of memory looks like."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rollback:
    """Remembers the buffers of a module before a step, and puts them back when the step is given up.

    Parameters need no copy: a step that is given up has not updated them. The copies are made in place, step
    after step, so that no memory is asked for when it is scarce.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._copies: dict[tuple[int, str], tuple[nn.Module, str, Tensor]] = {}

    @torch.no_grad()
    def remember(self) -> None:
        """Copy all buffers, into the former copies where they fit."""
        former, self._copies = self._copies, {}
        for module in self._module.modules():
            for name, buffer in module._buffers.items():
                if buffer is None:
                    continue
                key = (id(module), name)
                copy = former[key][2] if key in former else None
                if copy is None or not _alike(copy, buffer):
                    copy = torch.empty_like(buffer)
                copy.copy_(buffer)
                self._copies[key] = (module, name, copy)

    @torch.no_grad()
    def restore(self) -> None:
        """Put all buffers back as they were."""
        for module, name, copy in self._copies.values():
            now = module._buffers[name]
            if now is not None and _alike(now, copy):
                now.copy_(copy)
            else:
                module._buffers[name] = copy.clone()

    def state_dict(self) -> dict[str, Tensor]:
        """The module's state dict, with the remembered buffers in the place of the present ones."""
        state = self._module.state_dict()
        for prefix, module in self._module.named_modules():
            for name in module._buffers:
                full, key = f"{prefix}.{name}" if prefix else name, (id(module), name)
                if full in state and key in self._copies:
                    state[full] = self._copies[key][2]
        return state


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of memory; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return any(s in said for s in ("can't allocate memory", "not enough memory", "out of memory"))


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
