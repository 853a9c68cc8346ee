"""Work done beside the main thread, in order: writing a chunk while the next one is drawn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_END = None


class Background:
    """One thread that does what it is handed, one piece after the other; at most `waiting` pieces wait.

    The first error ends it: pieces behind it are dropped, and `do` or the end of the `with` raises that very error.
    Leaving the `with` waits until all is done, also when an error or a stop leaves it: what was drawn is written.
    """

    def __init__(self, waiting: int = 1):
        self._pieces: queue.Queue[Callable[[], Any] | None] = queue.Queue(maxsize=waiting)
        self._error: BaseException | None = None
        # a daemon: a process that is told to end at once does not wait for a disk
        self._thread = threading.Thread(target=self._work, name="gen-background", daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def do(self, function: Callable[..., Any], *args: Any) -> None:
        """Hand over function(*args); waits while too many pieces do. Raises: the error of an earlier piece."""
        self._raise()
        self._pieces.put(lambda: function(*args))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pieces.put(_END)
        self._thread.join()
        if self._error is not error and (error is None or isinstance(error, Exception)):
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not _END:
            if self._error is None:
                try:
                    piece()
                except BaseException as error:  # it belongs to the main thread
                    self._error = error
            del piece  # the volumes it holds are free before the next are waited for
