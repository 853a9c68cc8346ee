"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from gen_core.engine.device import describe_device, peak_memory, resolve_device
from gen_core.errors import UsageError


def test_cpu_and_auto_resolve():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "cpu:0x"])
def test_a_strange_name_says_what_is_expected(name):
    with pytest.raises(UsageError, match="expected auto, cpu, cuda"):
        resolve_device(name)


def test_a_missing_cuda_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'cuda': .*use device = cpu"):
        resolve_device("cuda")


def test_a_number_beyond_the_devices_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 0)
    with pytest.raises(UsageError, match="there are 2 CUDA devices"):
        resolve_device("cuda:2")


def test_peak_memory_grows_with_the_process():
    before = peak_memory(torch.device("cpu"))
    held = torch.ones(before // 4 + 30_000_000)  # more than the peak so far, float32
    assert peak_memory(torch.device("cpu")) > before + held.nbytes // 8
    assert "CPU" in describe_device(torch.device("cpu"))
