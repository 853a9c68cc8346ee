"""The sockets between processes: a stop reaches all, who ends without a word is named, strangers are not let in."""

from __future__ import annotations

import socket
import threading

import pytest

from gen_core.engine.lifeline import Lifeline
from gen_core.engine.stop import StopFlag


@pytest.fixture
def three(monkeypatch):
    """Three connected lifelines; what would end this process is only noted."""
    ended = []
    monkeypatch.setattr("gen_core.engine.lifeline.GRACE", 0.1)
    monkeypatch.setattr(Lifeline, "_end", lambda self: ended.append(self.rank))
    lines = [Lifeline(rank, 3, StopFlag()) for rank in range(3)]
    port, token = lines[0].listen()
    accepting = threading.Thread(target=lines[0].accept)
    accepting.start()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"guess 1\n")
        for line in lines[1:]:
            line.connect("127.0.0.1", port, token)
        accepting.join(20)
        stranger.settimeout(20)
        assert stranger.recv(1) == b""  # shown the door
    yield lines, ended
    for line in lines:
        line.close()


@pytest.mark.parametrize("asked", [0, 2])
def test_a_stop_of_one_reaches_all(three, asked):
    lines, _ = three
    lines[asked]._stop.request("SIGUSR1")
    for line in lines:
        assert line._stop.raised.wait(20) and line._stop.requested == "SIGUSR1"
        assert not line.lost


def test_one_that_ends_without_a_word_is_named_in_all_others(three):
    lines, ended = three
    lines[1]._closed = True  # of the dead process no thread would run on
    lines[1]._peers[0].shutdown(socket.SHUT_RDWR)
    for line in (lines[0], lines[2]):
        assert line.lost_now.wait(20)
        assert line.lost.startswith("process 1 of 3 ended without a word")
    done = threading.Event()
    for _ in range(200):
        if sorted(ended) == [0, 2] or done.wait(0.1):
            break
    assert sorted(ended) == [0, 2]


@pytest.mark.parametrize("failing", [0, 2])
def test_one_that_fails_where_nobody_can_leave_tells_all_others_why(three, failing):
    lines, _ = three
    lines[failing].fail("a volume of\nanother kind")
    for line in lines:
        if line.rank != failing:
            assert line.lost_now.wait(20)
            assert line.lost == f"process {failing} of 3: a volume of another kind"


def test_a_good_bye_is_no_loss(three):
    lines, ended = three
    lines[2].close()
    lines[0].ask_stop("SIGTERM")  # is still heard by the other
    assert lines[1]._stop.raised.wait(20)
    assert not lines[0].lost and not lines[1].lost and not ended
