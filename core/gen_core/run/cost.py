"""What steps cost: seconds, attempts and peak memory of each, summed up for the run, and on which machine."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json


def spend(ctx: RunContext, folder: Path, seconds: float, extra: dict[str, Any]) -> None:
    """Add the time of this attempt to the step's cost.json."""
    cost = read_json(folder / "cost.json")
    if not isinstance(cost, dict) or not {"seconds", "attempts"} <= cost.keys():
        cost = {"seconds": 0.0, "attempts": 0}
    cost["seconds"] = round(cost["seconds"] + seconds, 3)
    cost["attempts"] += 1
    cost["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if ctx.device.type == "cuda":
        import torch

        cost["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated(ctx.device) / 2**20)
    for key, value in extra.items():
        cost[key] = cost.get(key, 0) + value
    try:
        atomic.write_json(folder / "cost.json", cost)
    except OSError:
        return  # the step's own error, if any, says more than a missing cost entry


def write_cost(ctx: RunContext) -> None:
    """Sum up every step's cost in the run's cost.json."""
    steps = ctx.cost()
    evaluated = ctx.folder.path / "steps" / "evaluate" / "timed.json"
    atomic.write_json(
        ctx.folder.path / "cost.json",
        {
            "machine": machine(ctx),
            "total_seconds": round(sum(s.get("seconds", 0.0) for s in steps.values()), 3),
            "steps": steps,
            "timed": read_json(evaluated) or {},
        },
    )


def machine(ctx: RunContext) -> dict[str, Any]:
    """What the figures in cost.json were measured on."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    found = {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(ctx.device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if ctx.ranks.world > 1:
        found["processes"] = ctx.ranks.world
    if ctx.device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(ctx.device)
    return found
