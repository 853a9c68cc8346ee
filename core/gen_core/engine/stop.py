"""Polite signals: SIGTERM, SIGINT and SIGUSR1 set a flag, and the loop ends with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopFlag:
    """`with StopFlag() as stop:` catches the signals; `stop.requested` names the first that came, or is "".

    A second SIGINT raises KeyboardInterrupt: the user means it. Former handlers come back on leaving.
    Outside the main thread no handler can be set; the flag can still be raised by `request`.
    `raised` is set with the flag, for threads that wait for it.
    """

    def __init__(self) -> None:
        self.requested = ""
        self.raised = threading.Event()
        self._former: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def request(self, reason: str) -> None:
        """Ask for a stop, as a signal would."""
        self.requested = self.requested or reason
        self.raised.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = number == signal.SIGINT or self._interrupted
        self.request(signal.Signals(number).name)

    def _listen(self, end: int) -> None:
        """Python runs a handler only between two operations of the main thread; the bytes in this pipe are
        written by the signal itself, even while the main thread is inside a long operation."""
        while data := os.read(end, 64):
            for number in data:
                if number in SIGNALS:
                    self.request(signal.Signals(number).name)
        os.close(end)

    def __enter__(self) -> StopFlag:
        self._interrupted = False
        if threading.current_thread() is threading.main_thread():
            read_end, write_end = os.pipe()
            os.set_blocking(write_end, False)
            self._pipe = (write_end, signal.set_wakeup_fd(write_end, warn_on_full_buffer=False))
            threading.Thread(target=self._listen, args=(read_end,), daemon=True).start()
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            # None: the handler was not set from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}
        if self._pipe is not None:
            write_end, former = self._pipe
            signal.set_wakeup_fd(former)
            os.close(write_end)  # which ends the listener
            self._pipe = None
