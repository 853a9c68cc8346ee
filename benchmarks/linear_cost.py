"""What many samples cost: 1 000 against ten times 100, 3 000 against three times 1 000, and the memory of each.

    OMP_NUM_THREADS=1 python benchmarks/linear_cost.py [--rounds 5] [--json]

One small model is fitted once (volumes of 8 x 32 x 32, 32 KiB each: held in memory, 3 000 would be 94 MiB). Every
measurement then is a run of its own in a fresh process, the numbers of samples in turn, which shares the fitted steps
and draws, decodes, writes and (once for each number) scores its samples. Time is that of the step `sample`, by the
wall's clock and by the processor's: on a busy machine look at the latter. Memory is the process's peak (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import machine

FEW, MANY, MOST = 100, 1000, 3000
SETTINGS = (
    "volume.size=[8, 32, 32]", "dataset.subjects=24", "codec.stride=[8, 4, 4]", "codec.width=4", "prior.base=8",
    "codec.fit.steps=8", "codec.fit.validate_every=8", "codec.fit.checkpoint_every=8", "prior.fit.steps=8",
    "prior.fit.validate_every=8", "prior.fit.checkpoint_every=8", "segmenter.fit.steps=8", "sample.batch=20",
    "sample.steps=2", 'device="cpu"',
)  # fmt: skip


class Clock:
    """A progress display that keeps the wall's and the processor's seconds of each step."""

    def __init__(self) -> None:
        self.began: dict[str, tuple[float, float]] = {}
        self.steps: dict[str, dict[str, float]] = {}

    def step_started(self, name: str, why: str) -> None:
        self.began[name] = time.perf_counter(), time.process_time()

    def step_finished(self, name: str, seconds: float, note: str) -> None:
        wall, cpu = self.began[name]
        self.steps[name] = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak_mb": peak_mb(),
        }

    def update(self, *args: Any) -> None:
        """Not shown."""

    def say(self, message: str) -> None:
        """Not shown."""


def peak_mb() -> float:
    """The highest resident memory of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(n: int, folder: Path, until: str) -> None:
    """In a fresh process: draw n samples (and score them), print what each step took."""
    from gen_core.run import api

    clock = Clock()
    api.run(api.RunRequest("tiny", (*SETTINGS, f"sample.n={n}"), folder, until_step=until), clock)
    print(json.dumps(clock.steps))


def fresh(n: int, folder: Path, until: str = "sample") -> dict[str, dict[str, float]]:
    words = [sys.executable, __file__, "--side", str(n), str(folder), until]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--side", nargs=3)
    asked = arguments.parse_args()
    if asked.side:
        measure(int(asked.side[0]), Path(asked.side[1]), asked.side[2])
        return
    with tempfile.TemporaryDirectory(prefix="gen-linear-") as scratch:
        root = Path(scratch)
        fresh(20, root / "fitted")
        times: dict[int, list[dict[str, float]]] = {FEW: [], MANY: [], MOST: []}
        for k in range(asked.rounds):
            for n in list(times) if k % 2 == 0 else list(times)[::-1]:
                times[n].append(fresh(n, root / f"{n}-{k}")["sample"])
        memory = {n: fresh(n, root / f"{n}-scored", "evaluate") for n in (FEW, MANY, MOST)}
    tell(times, memory, asked.json)


def tell(times: dict[int, list[dict[str, float]]], memory: dict[int, Any], as_json: bool) -> None:
    """Medians over the rounds; the ratio is that of each round, so that a slow minute falls on both sides."""
    found: dict[str, Any] = {"machine": machine(), "rounds": len(times[FEW])}
    for clock in ("cpu", "wall"):
        found[clock] = {"seconds": {n: statistics.median(row[clock] for row in rows) for n, rows in times.items()}}
        for few, many in ((FEW, MANY), (MANY, MOST)):
            ratios = sorted(b[clock] / a[clock] for a, b in zip(times[few], times[many]))
            found[clock][f"{many} / {few}"] = [round(statistics.median(ratios), 3), [round(r, 3) for r in ratios]]
    found["peak_mb"] = {n: {step: round(row["peak_mb"]) for step, row in steps.items()} for n, steps in memory.items()}
    found["cpu_scored"] = {n: {s: round(row["cpu"], 2) for s, row in steps.items()} for n, steps in memory.items()}
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['machine']}; {found['rounds']} rounds\n")
    print("| clock | 100, 1 000, 3 000 samples | 1 000 / 100 | 3 000 / 1 000 | a further sample |")
    print("| --- | --- | --- | --- | --- |")
    for clock in ("cpu", "wall"):
        row, seconds = found[clock], found[clock]["seconds"]
        said = []
        for few, many in ((FEW, MANY), (MANY, MOST)):
            ratio, each = row[f"{many} / {few}"]
            said.append(f"{ratio:.2f} ({', '.join(f'{r:.2f}' for r in each)})")
        more = (1e3 * (seconds[b] - seconds[a]) / (b - a) for a, b in ((FEW, MANY), (MANY, MOST)))
        early, late = (f"{ms:.2f} ms" for ms in more)
        all_three = ", ".join(f"{seconds[n]:.2f} s" for n in (FEW, MANY, MOST))
        print(f"| {clock} | {all_three} | {said[0]} | {said[1]} | early {early}, late {late} |")
    print("\n| samples | peak after `sample` | after `evaluate` | processor time of `sample` | of `evaluate` |")
    print("| --- | --- | --- | --- | --- |")
    for n in memory:
        peak, cpu = found["peak_mb"][n], found["cpu_scored"][n]
        print(f"| {n} | {peak['sample']} MB | {peak['evaluate']} MB | {cpu['sample']} s | {cpu['evaluate']} s |")


if __name__ == "__main__":
    main()
