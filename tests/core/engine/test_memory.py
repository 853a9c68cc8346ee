"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gen_core.engine import memory

HELD = """
import numpy as np
from pathlib import Path
from gen_core.engine.memory import give_back

resident = lambda: int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
large, pins = [], []
for _ in range(1500):
    large.append(np.ones(12_500))  # 100 kB, from the heap
    pins.append(np.ones(20))  # and what lives on above it
del large
before = resident()
assert give_back()
print(before, resident())
"""


@pytest.mark.skipif(memory._trim() is None, reason="no glibc here")
def test_blocks_between_things_that_live_on_are_returned():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert before - after > 100  # MB, of 143


def test_another_c_library_is_no_error(monkeypatch):
    monkeypatch.setattr(memory, "_trim", lambda: None)
    assert memory.give_back() is False
