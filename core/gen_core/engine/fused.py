"""Functions of many small operations that a GPU runs as a few kernels: compiled on first use there, plain elsewhere.

Norms and small attentions are bound by memory: written one after the other their operations read and write the same
tensor again and again, in float32. `torch.compile` makes one pass of them. Where it cannot (no compiler, an unknown
card) the plain function answers, and a warning says so once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch


class Fused:
    """A pure function of tensors, the first of which says where it runs.

    on: of all such functions in this process; what a benchmark switches to see what it brings.
    """

    on = True

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self._compiled: Callable[..., Any] | None = None
        self.__doc__ = function.__doc__

    def __call__(self, x: torch.Tensor, *rest: Any) -> Any:
        if x.device.type != "cuda" or not Fused.on:
            return self.function(x, *rest)
        if self._compiled is None:
            self._compiled = torch.compile(self.function, fullgraph=True)
        try:
            return self._compiled(x, *rest)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            Fused.on = False
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warnings.warn(f"torch.compile failed, operations run one by one: {cause}", stacklevel=2)
            return self.function(x, *rest)
