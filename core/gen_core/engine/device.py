"""Which device a run computes on; nothing global is touched."""

from __future__ import annotations

import resource
import sys

import torch

from gen_core.errors import UsageError


def resolve_device(name: str = "auto") -> torch.device:
    """ "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:<i>".

    Raises: UsageError naming what is there instead.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if present else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise UsageError(f"device '{name}': expected auto, cpu, cuda or cuda:<number>")
    if not present:
        why = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is visible"
        raise UsageError(f"device '{name}': {why}; use device = cpu or auto")
    if int(index or 0) >= present:
        raise UsageError(f"device '{name}': there are {present} CUDA devices, numbered from 0")
    return torch.device("cuda", int(index or 0))


def describe_device(device: torch.device) -> str:
    """The hardware's name, for reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """Highest memory use so far in bytes: of torch's allocator on CUDA, of the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
