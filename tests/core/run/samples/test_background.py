"""Work beside the main thread: its order, its bounds, its errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gen_core.run.samples.background import Background


def test_pieces_are_done_in_order_and_all_before_the_end():
    seen = []
    with Background() as beside:
        for i in range(20):
            beside.do(lambda i: (time.sleep(0.002), seen.append(i)), i)
    assert seen == list(range(20))


def test_no_more_pieces_wait_than_allowed():
    gate, begun = threading.Event(), []
    with Background(waiting=2) as beside:
        for i in range(3):  # one at work, two that wait
            beside.do(lambda i: (begun.append(i), gate.wait(10)), i)
        late = threading.Thread(target=beside.do, args=(begun.append, 3))
        late.start()
        late.join(0.2)
        assert late.is_alive() and begun == [0]
        gate.set()
        late.join(10)
    assert begun == [0, 1, 2, 3]


def test_the_first_error_comes_back_and_what_is_behind_it_is_not_done():
    seen = []

    def work(i):
        if i == 2:
            raise OSError(28, "No space left on device", "chunk-00002")
        seen.append(i)

    with pytest.raises(OSError, match="No space left on device.*chunk-00002"), Background() as beside:
        for i in range(50):
            beside.do(work, i)
    assert seen == [0, 1]


def test_an_error_of_the_last_piece_is_not_lost():
    with pytest.raises(ZeroDivisionError), Background() as beside:
        beside.do(lambda: 1 / 0)


def test_an_error_of_the_main_thread_passes_after_what_was_handed_over_is_done():
    seen = []
    with pytest.raises(KeyError, match="own"), Background() as beside:
        beside.do(lambda: (time.sleep(0.05), seen.append(1)))
        raise KeyError("own")
    assert seen == [1]


def test_a_full_disk_says_more_than_the_stop_that_came_after_it():
    with pytest.raises(OSError, match="full"), Background() as beside:
        beside.do(lambda: (_ for _ in ()).throw(OSError("full")))
        time.sleep(0.05)
        raise RuntimeError("stopped")


KILLED = """
import os, sys, time
from pathlib import Path
from gen_core import atomic
from gen_core.run.samples.background import Background
folder = Path(sys.argv[1])
with Background() as beside:
    for i in range(10_000):
        beside.do(atomic.write_text, folder / f"{i:05d}", "x" * 100_000)
        if i == 3:
            print("going", flush=True)
"""


def test_a_kill_leaves_whole_files_only(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "going\n"
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
    whole = sorted(p for p in tmp_path.iterdir() if p.name.isdigit())
    assert len(whole) >= 2
    assert [int(p.name) for p in whole] == list(range(len(whole)))  # in order, none left out
    assert all(p.stat().st_size == 100_000 for p in whole)
