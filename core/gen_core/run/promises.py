"""What a component gives is what it promised: the shape, and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gen_core.errors import RunError


def require_promised(value: Tensor, shape: Sequence[int], what: str, advice: str = "") -> None:
    """Raises: RunError when `value` is not of this shape, or holds NaN or infinity. what: "[codec] decodes x to"."""
    if tuple(value.shape) != tuple(shape):
        raise RunError(f"{what} {tuple(value.shape)} where {tuple(shape)} was promised")
    if not bool(value.isfinite().all()):
        raise RunError(f"{what} NaN or infinite values" + (f"; {advice}" if advice else ""))
