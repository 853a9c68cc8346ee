"""A small harness: peer and ours in turn, several rounds, medians with spread, memory of a fresh process.

Use, at the end of a script::

    from harness import compare

    compare("vq lookup, 28224 x 8, 1024 codes", {"plain torch": peer, "ours": ours}, rounds=7)

The first side is the reference of the ratios. What came out is also kept in `results/<script>.json`, where
`all.py --table` finds it; GEN_BENCHMARK_RESULTS names another folder. Command line of every benchmark: `--json` prints
one JSON object a comparison instead of Markdown rows, `--tuned` starts again with an allocator that keeps large blocks
(page faults inflate baselines up to 3.5 x: look at both), `--no-memory` skips the memory column. Threads are
what OMP_NUM_THREADS says. The memory of a side is measured by running the script again, so a script must not
lean on what `compare` returns.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

_SIDE = "GEN_BENCHMARK_SIDE"  # set in the fresh process that measures the memory of one side
_TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "MALLOC_TOP_PAD_": "67108864",
}
_TICK = 0.01  # seconds: what processor times are counted in
_header_printed = False


def results_folder() -> Path:
    """Where results are kept: beside the scripts, or where GEN_BENCHMARK_RESULTS says."""
    return Path(os.environ.get("GEN_BENCHMARK_RESULTS") or Path(__file__).resolve().parent / "results")


def keep(script: str, rows: list[dict[str, Any]]) -> None:
    """Put `rows` (each with its "name") into `results/<script>.json`, in the place of rows of the same name."""
    path = results_folder() / f"{script}.json"
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    table = {row["name"]: row for row in [*known, *rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps({"script": script, "rows": list(table.values())}, indent=1) + "\n")
    beside.replace(path)


def stamp() -> dict[str, Any]:
    """Machine, date and how busy the machine was: part of every kept row."""
    return {"machine": machine(), "date": date.today().isoformat(), "load": round(os.getloadavg()[0], 1)}


def machine() -> str:
    """One line: processor, cores used, allocator, Python, torch."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS", "all")
    parts = [
        f"{name}, {os.cpu_count()} cores, {threads} threads",
        "tuned allocator" if _TUNED.keys() <= os.environ.keys() else "default allocator",
        f"Python {platform.python_version()}",
    ]
    if torch:
        parts.append(f"torch {torch.__version__}")
        if torch.cuda.is_available():
            parts.append(torch.cuda.get_device_name())
    return "; ".join(parts)


def compare(
    name: str,
    sides: dict[str, Callable[[], Any]],
    rounds: int = 7,
    warmup: int = 1,
    memory: bool = True,
) -> dict[str, Any]:
    """Time every side `rounds` times in turn and print what came out.

    Returns {"name", "machine", "date", "load", "rounds", "sides": {side: {median_s, min_s, max_s, ratio,
    ratio_of_minima, cpu_s, cpu_ratio, extra_mb}}}: ratio = median of the first side / median of this side (above 1:
    faster than the reference); cpu_s = least processor time of a call and its children, which other processes disturb
    less than the clock; extra_mb = rise of the peak resident memory (VmHWM) during one call in a fresh process, None
    where it cannot be read.
    """
    if "--tuned" in sys.argv and not _TUNED.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_TUNED})
    if _SIDE in os.environ:
        return _measure_memory(name, sides)

    times: dict[str, list[float]] = {side: [] for side in sides}
    busy: dict[str, list[float]] = {side: [] for side in sides}
    for call in sides.values():
        for _ in range(warmup):
            _timed(call)
    for _ in range(rounds):
        for side, call in sides.items():
            before = sum(os.times()[:4])
            times[side].append(_timed(call))
            busy[side].append(max(sum(os.times()[:4]) - before, _TICK))

    first = next(iter(times.values()))
    reference, least = statistics.median(first), min(first)
    result: dict[str, Any] = {"name": name, **stamp(), "rounds": rounds, "sides": {}}
    for side, seconds in times.items():
        median = statistics.median(seconds)
        result["sides"][side] = {
            "median_s": median,
            "min_s": min(seconds),
            "max_s": max(seconds),
            "ratio": reference / median,
            "ratio_of_minima": least / min(seconds),
            "cpu_s": min(busy[side]),
            "cpu_ratio": min(next(iter(busy.values()))) / min(busy[side]),
            "extra_mb": _memory_of(name, side) if memory and "--no-memory" not in sys.argv else None,
        }
    _print(result)
    keep(Path(sys.argv[0]).stem, [result])
    return result


def _timed(call: Callable[[], Any]) -> float:
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_initialized()
    start = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _measure_memory(name: str, sides: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """In the fresh process: run the wanted side once, print its figure and end."""
    wanted, _, side = os.environ[_SIDE].partition("\n")
    if wanted == name:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to what is resident now
        before = _status_mb("VmHWM")
        sides[side]()
        print(f"\nEXTRA_MB {_status_mb('VmHWM') - before:.3f}", flush=True)
        os._exit(0)
    return {}


def _memory_of(name: str, side: str) -> float | None:
    env = {**os.environ, _SIDE: f"{name}\n{side}"}
    done = subprocess.run([sys.executable, *sys.argv], env=env, capture_output=True, text=True)
    marks = [line for line in done.stdout.splitlines() if line.startswith("EXTRA_MB ")]
    return float(marks[-1].split()[1]) if marks else None


def _print(result: dict[str, Any]) -> None:
    global _header_printed
    if "--json" in sys.argv:
        print(json.dumps(result))
        return
    if not _header_printed:
        print(f"{result['machine']}\n")
        print("| work | side | median | min .. max | times the reference | by processor time | extra memory |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        _header_printed = True
    for side, row in result["sides"].items():
        extra = "-" if row["extra_mb"] is None else f"{row['extra_mb']:.1f} MB"
        spread = f"{1e3 * row['min_s']:.1f} .. {1e3 * row['max_s']:.1f} ms"
        cells = [
            result["name"],
            side,
            f"{1e3 * row['median_s']:.1f} ms",
            spread,
            f"{row['ratio']:.2f}",
            f"{row['cpu_ratio']:.2f}",
            extra,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
