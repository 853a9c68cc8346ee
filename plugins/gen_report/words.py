"""Numbers, durations, counts and nested data as a reader wants them."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, digits: int = 4) -> str:
    """A figure as a reader wants it; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(n: int) -> str:
    """562700000 -> "562.7 M"."""
    return next((f"{n / size:.1f} {unit}" for size, unit in ((10**9, "G"), (10**6, "M")) if n >= size), f"{n:,}")


def flat(value: Any) -> str:
    """Nested data as one readable line."""
    if isinstance(value, dict):
        return ", ".join(f"{k}: {flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(flat(v) for v in value)
    return number(value, 6) if isinstance(value, float) else str(value)
