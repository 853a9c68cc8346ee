"""The adaptive Runge-Kutta method of Dormand & Prince 1980, order 5(4), with step sizes of each sample's own.

So the result of a sample does not depend on its neighbours in the batch.
Sources: Dormand & Prince 1980, table 2 (RK5(4)7M); step control: Hairer, Norsett & Wanner 1993, section II.4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gen_core.errors import RunError

State = tuple[Tensor, ...]
"""Tensors of first axis B that are integrated together."""

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # also the result of order 5
)
# order 5 less order 4
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
FIRST = 0.01  # of the way: a first step that the control corrects at once


def wide(value: Tensor, like: Tensor) -> Tensor:
    """(B,) in the dtype of `like`, shaped to multiply it."""
    return value.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


def combined(weights: tuple[float, ...], slopes: list[State], part: int) -> Tensor:
    return sum(w * k[part] for w, k in zip(weights, slopes) if w)  # type: ignore[return-value]


def error_ratio(y: State, y_new: State, error: list[Tensor], rtol: float, atol: float) -> Tensor:
    """(B,) float64 root mean square of error over tolerance, the largest of all parts of the state."""
    ratios = []
    for a, b, e in zip(y, y_new, error):
        scaled = e / (atol + rtol * torch.maximum(a.abs(), b.abs()))
        ratios.append(scaled.double().reshape(len(e), -1).square().mean(1).sqrt())
    return torch.stack(ratios).amax(0)


def integrate(
    slope: Callable[[State, Tensor], State],
    y: State,
    start: float,
    end: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    evaluations: int = 10_000,
) -> State:
    """y(end) of dy/dx = slope(y, x) from y(start) = y; x is (B,) float64, one place a sample.

    Samples that are done wait for the others without moving. Raises: RunError beyond so many evaluations.
    """
    n, device = len(y[0]), y[0].device
    x = torch.full((n,), start, dtype=torch.float64, device=device)
    h = torch.full_like(x, FIRST * (end - start))
    first = slope(y, x)
    for _ in range(max((evaluations - 1) // 6, 1)):
        ends = h.abs() >= (end - x).abs() * (1 - 1e-9)
        h = torch.where(ends, end - x, h)
        slopes, y_new = [first], y
        for node, weights in zip(NODES[1:], STAGES):
            y_new = tuple(a + wide(h, a) * combined(weights, slopes, i) for i, a in enumerate(y))
            slopes.append(slope(y_new, x + node * h))
        error = [wide(h, a) * combined(ERROR, slopes, i) for i, a in enumerate(y)]
        ratio = error_ratio(y, y_new, error, rtol, atol).nan_to_num(torch.inf, torch.inf)
        good = ratio <= 1.0
        y = tuple(torch.where(wide(good, b) > 0, b, a) for a, b in zip(y, y_new))
        first = tuple(torch.where(wide(good, b) > 0, b, a) for a, b in zip(first, slopes[-1]))
        x = torch.where(good, torch.where(ends, end, x + h), x)
        factor = (SAFETY * ratio.clamp_min(1e-12) ** -0.2).clamp(SHRINK, GROW)
        h = h * torch.where(good, factor, factor.clamp(max=1.0))
        if bool((x == end).all()):
            return y
    raise RunError(f"the flow's ODE needs more than {evaluations} evaluations; raise rtol and atol, or evaluations")
