"""Signals raise a flag, and go back to whom they belonged."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from gen_core.engine.stop import SIGNALS, StopFlag


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_the_flag_and_names_itself(number):
    with StopFlag() as stop:
        assert stop.requested == ""
        os.kill(os.getpid(), number)
        assert stop.requested == signal.Signals(number).name


def test_a_second_interrupt_means_it():
    with StopFlag() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1)
    assert stop.requested == "SIGINT"


def test_a_second_sigterm_is_patient():
    with StopFlag() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"


def test_former_handlers_come_back_even_after_an_error():
    former = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), StopFlag():
        assert signal.getsignal(signal.SIGTERM) not in former
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == former


def test_outside_the_main_thread_only_requests_count():
    seen = []

    def work():
        with StopFlag() as stop:
            stop.request("the test")
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["the test"]
