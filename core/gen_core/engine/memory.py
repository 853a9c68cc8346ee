"""Memory that was let go, given back to the system.

glibc keeps freed blocks for later: where small results that live long are made between large volumes that do not, the
blocks of the volumes are cut up, new ones are taken for the next, and a process grows by the size of a volume with each
volume that it looks at, though nothing holds it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


def give_back() -> bool:
    """Return all free pages to the system, where the C library can; a few milliseconds. Says whether it could."""
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True
