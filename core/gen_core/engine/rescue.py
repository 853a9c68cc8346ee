"""A checkpoint in time even when the loop is held up inside one long operation.

A backward pass over a large volume on a CPU can take a minute, and waiting for a slow disk longer: the loop sees
a stop only afterwards. Meanwhile nothing that belongs in a checkpoint changes, so a second thread writes it; the
loop ends when the operation lets it go, or is killed and has lost nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gen_core.engine.stop import StopFlag
from gen_core.errors import GenError

GRACE = 3.0  # seconds the loop has to see the stop by itself
LOOK = 0.25  # seconds between two looks of the second thread


class Rescue:
    """Calls the `save` of `held_up` from a second thread, `grace` seconds after a stop was requested."""

    def __init__(self, stop: StopFlag, grace: float = GRACE) -> None:
        self._stop, self._grace = stop, grace
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._save: Callable[[], None] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def held_up(self, save: Callable[[], None]) -> Iterator[None]:
        """Inside, the caller changes nothing that `save` writes. On leaving, a save in progress is waited for."""
        with self._lock:
            self._save = save
        try:
            yield
        finally:
            with self._lock:
                self._save = None

    def close(self) -> None:
        """End the second thread."""
        self._closed.set()

    def _watch(self) -> None:
        since: float | None = None
        while not self._closed.wait(LOOK):
            if not self._stop.raised.is_set():
                continue
            since = time.monotonic() if since is None else since
            if time.monotonic() - since < self._grace:
                continue
            with self._lock:
                if self._save is not None:
                    try:
                        self._save()
                    except GenError:
                        pass  # the loop will meet the same trouble, and tell it
                    return
