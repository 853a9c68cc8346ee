"""Polite signals: SIGTERM, SIGINT and SIGUSR1 set a flag, and the loop ends with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """`with StopFlag() as stop:` catches the signals; `stop.requested` names the first that came, or is "".

    A second SIGINT raises KeyboardInterrupt: the user means it. Former handlers come back on leaving.
    Outside the main thread no handler can be set; the flag can still be raised by `request`.
    """

    def __init__(self) -> None:
        self.requested = ""
        self._former: dict[int, Any] = {}

    def request(self, reason: str) -> None:
        """Ask for a stop, as a signal would."""
        self.requested = self.requested or reason

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request(signal.Signals(number).name)

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            # None: the handler was not set from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}
