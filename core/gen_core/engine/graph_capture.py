"""A function of tensors recorded as a CUDA graph and played again: hundreds of kernel launches become one.

At small latents a denoiser is bound by launches, not by arithmetic: the host takes longer to ask for its kernels than
the device to run them. A graph keeps every kernel with its arguments, so it plays in fixed memory: what goes in is
copied there, what comes out is copied from there. The kernels are those of a plain call, and so are the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
Play = Callable[..., tuple[Tensor, ...]]
Record = Callable[[Function, tuple[Tensor, ...]], Play]

WARM_UP = 2  # plain calls before recording: libraries choose their kernels and set up workspaces in the first ones


def record_cuda(function: Function, inputs: tuple[Tensor, ...]) -> Play:
    """Record one call of `function` on tensors like `inputs`; the player takes tensors of the same shapes.

    Raises: RuntimeError when something in it cannot be recorded, such as waiting for the device.
    """
    fixed = tuple(x.clone() for x in inputs)
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            function(*fixed)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function(*fixed)

    def play(*given: Tensor) -> tuple[Tensor, ...]:
        for ours, theirs in zip(fixed, given):
            ours.copy_(theirs, non_blocking=True)
        graph.replay()
        return tuple(x.clone() for x in results)  # the next play overwrites the results

    return play


class Captured:
    """`function` by recorded graphs, one for each set of shapes; as it is where recording fails, which is said once.

    function: tensors in, a tuple of tensors out; it must depend on nothing else that changes between calls.
    """

    def __init__(self, function: Function, say: Callable[[str], Any] = lambda line: None, record: Record = record_cuda):
        self.function, self.say, self.record = function, say, record
        self.players: dict[Any, Play] = {}
        self.given_up = False

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.given_up:
            return self.function(*inputs)
        key = tuple((tuple(x.shape), x.dtype, x.device) for x in inputs)
        if key not in self.players:
            try:
                self.players[key] = self.record(self.function, inputs)
            except RuntimeError as error:  # also: out of memory
                self.given_up = True
                self.players.clear()
                cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                self.say(f"sampling without a recorded graph: {cause}")
                return self.function(*inputs)
        return self.players[key](*inputs)
