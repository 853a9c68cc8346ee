"""Exponential moving average of weights: parameters averaged, buffers copied.

theta_ema <- decay * theta_ema + (1 - decay) * theta, every `every` steps from step `start` on; before that the
average is the weights themselves. Source: Polyak & Juditsky 1992; Ho et al. 2020, appendix B (0.9999).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from gen_core.errors import RunError
from gen_core.trainable import Trainable


class Ema:
    """The averages of the parameters of `module.ema_groups()`. decay 0 switches it off.

    pieces: what is averaged in place of a parameter; it shares memory with what the module computes with.
    """

    def __init__(
        self,
        module: Trainable,
        decay: float,
        start: int = 0,
        every: int = 1,
        pieces: Mapping[str, torch.nn.Parameter] | None = None,
    ) -> None:
        self._pieces = pieces or {}
        self.decay, self.start, self.every = decay, start, every
        self.active = False
        self.names: list[str] = []
        self._parameters: list[torch.nn.Parameter] = []
        self._averages: list[Tensor] = []
        if decay <= 0:
            return
        groups = module.groups()
        wanted = {id(p) for g in module.ema_groups() for m in groups[g] for p in m.parameters()}
        for name, parameter in module.named_parameters():
            if id(parameter) in wanted:
                self.names.append(name)
                self._parameters.append(self._pieces.get(name, parameter))

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after `done` optimizer steps."""
        if self.decay <= 0 or done < self.start:
            return
        if not self.active:
            # the start is the weights themselves: no bias towards a random initialization
            self._averages = [p.detach().clone() for p in self._parameters]
            self.active = True
        elif done % self.every == 0:
            torch._foreach_lerp_(self._averages, self._parameters, 1.0 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module holds the averages instead of its weights (buffers are shared: that copies them)."""
        if not self.active:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, (name, parameter) in enumerate(zip(self.names, self._parameters)):
            if name in self._pieces:
                before = parameter.detach().clone()
                parameter.detach().copy_(self._averages[i])
                self._averages[i].copy_(before)
            else:
                parameter.data, self._averages[i] = self._averages[i], parameter.data

    def state(self) -> dict[str, Tensor]:
        """Parameter name -> average; empty while inactive."""
        return dict(zip(self.names, self._averages)) if self.active else {}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises: RunError naming keys that do not fit."""
        if not state:
            self.active = False
            return
        if set(state) != set(self.names):
            odd = sorted(set(state) ^ set(self.names))[:5]
            raise RunError(f"averaged weights do not fit this model: {', '.join(odd)}")
        self._averages = [
            state[name].to(device=p.device, dtype=p.dtype) for name, p in zip(self.names, self._parameters)
        ]
        self.active = True
