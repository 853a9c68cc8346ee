"""Activations between passes, in memory and in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from gen_core.errors import RunError
from gen_core.tiling.store import FileStore, MemoryStore

CPU = torch.device("cpu")
BOX = ((0, 2), (1, 4), (2, 6))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_written_into_a_region_is_read_from_any_other(kind, tmp_path):
    store = MemoryStore((3, 2, 5, 7), CPU) if kind == "memory" else FileStore((3, 2, 5, 7), tmp_path, CPU)
    everything = ((0, 2), (0, 5), (0, 7))
    want = torch.randn(1, 3, 2, 5, 7)
    store.write(everything, want)
    part = torch.randn(1, 3, 2, 3, 4)
    store.write(BOX, part)
    want[..., 1:4, 2:6] = part
    assert torch.equal(store.read(everything), want)
    assert torch.equal(store.read(((1, 2), (0, 5), (3, 4))), want[:, :, 1:2, :, 3:4])
    store.close()


def test_a_killed_process_leaves_no_file(tmp_path):
    code = (
        "import os, signal, torch; from pathlib import Path; from gen_core.tiling.store import FileStore\n"
        f"s = FileStore((2, 3, 4, 5), Path({str(tmp_path)!r}), torch.device('cpu'))\n"
        "s.write(((0, 3), (0, 4), (0, 5)), torch.ones(1, 2, 3, 4, 5))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_one_line_that_names_the_setting(tmp_path):
    with pytest.raises(RunError, match=r"\[tiling\] scratch: .* GiB of activations do not fit into"):
        FileStore((1024, 1 << 14, 1 << 14, 1 << 6), tmp_path, CPU)
