"""Evaluation at full size: 339 + 339 volumes of 16 x 224 x 224, 100 triplets each, time and memory of every stage.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py            # all volumes, about four minutes on one thread
    OMP_NUM_THREADS=1 python benchmarks/evaluation.py --quick    # 6 + 6 volumes; times of whole sets are extrapolated

First the extraction of features against the naive loop (one triplet after the other, float32), values compared; then
the stages of `hyperspectral-fid`: features computed, features found in the cache, moments and scores; and `kid` and
`prdc` on as many feature vectors. Stages run in processes of their own; memory is the peak of each (VmHWM).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from harness import compare, machine

from gen_core.batch import Batch
from gen_core.engine.memory import give_back
from gen_core.run.scoring.evaluation import GIVE_BACK_EVERY
from gen_core.volume import VolumeSpec
from gen_features.random_conv64 import RandomConv64
from gen_metrics import metric_options as opt
from gen_metrics.hyperspectral_fid import HyperspectralFid, band_triplets, triplet_features
from gen_metrics.kid import kernel_distance
from gen_metrics.prdc import prdc

SIZE = (16, 224, 224)
TRIPLETS, VOLUMES, FEW = 100, 339, 6
_STAGE = "GEN_EVALUATION_STAGE"


def volume(i: int, shift: float = 0.0) -> torch.Tensor:
    """(1, D, H, W): a smooth picture of its own, brightness and spectrum of its own, and noise."""
    g = torch.Generator().manual_seed(i)
    coarse = torch.randn(1, SIZE[0], 14, 14, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, SIZE[1:], mode="bilinear")
    spectrum = 0.3 * torch.randn(SIZE[0], 1, 1, generator=g)
    return (0.3 * smooth + spectrum + shift + 0.05 * torch.randn(1, *SIZE, generator=g)).clamp(-1, 1)


def extraction() -> None:
    """One volume's features: naive loop, batches of gathered triplets, ours."""
    network, bands = RandomConv64(), volume(0)[0]
    picks = torch.from_numpy(band_triplets(SIZE[0], TRIPLETS, 0, "eye"))
    sides = {
        "one triplet after the other": lambda: torch.cat([network.features(bands[p][None]) for p in picks]),
        "gathered, 100 at once": lambda: network.features(bands[picks]),
        "ours": lambda: triplet_features(network, bands, picks, TRIPLETS),
    }
    with torch.no_grad():
        values = [side() for side in sides.values()]
        worst = max(float((v - values[0]).abs().max()) for v in values)
        if worst > 1e-5:
            raise SystemExit(f"the sides disagree by {worst:.2g}")
        compare(f"features of {TRIPLETS} triplets, {' x '.join(map(str, SIZE))}", sides, rounds=7)


def run_metric(n: int, cache: Path | None) -> tuple[dict[str, float], float]:
    """Seconds of the stages of `hyperspectral-fid` on n + n volumes, and the score."""
    network, seconds = RandomConv64(), {"volumes made": 0.0, "features": 0.0}
    context = SimpleNamespace(
        spec=VolumeSpec(SIZE), seed=0, counts={}, device=None, cache=cache, features=lambda table: network
    )
    metric = HyperspectralFid(opt.HyperspectralFid(triplets=TRIPLETS), context)
    for source, first, shift in (("val", 0, 0.0), ("train", 10_000, 0.05)):  # sources that the cache keeps
        for i in range(first, first + n):
            start = time.perf_counter()
            batch = Batch(volume(i, shift)[None], [f"eye-{i}"])
            made = time.perf_counter()
            metric.update(batch, source)
            if i % GIVE_BACK_EVERY == 0:
                give_back()
            seconds["volumes made"] += made - start
            seconds["features"] += time.perf_counter() - made
    start = time.perf_counter()
    value = metric.compute().values[0].value
    seconds["scores, intervals and limit"] = time.perf_counter() - start
    return seconds, value


def neighbours(n: int) -> dict[str, float]:
    """Seconds of `kid` and `prdc` on n + n vectors of 2048 features, jackknife included."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 2048, generator=g, dtype=torch.float64) for _ in range(2))
    found = {}
    for name, call in (("kid", lambda: kernel_distance(a, b, 20, 2000)), ("prdc", lambda: prdc(a, b, 5, 12))):
        start = time.perf_counter()
        call()
        found[f"{name}, 2048 features"] = time.perf_counter() - start
    return found


def stage(name: str, n: int, folder: str) -> None:
    """In a process of its own: one stage, its seconds and peak memory as JSON."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    value = None
    if name == "neighbours":
        seconds = neighbours(n)
    else:
        seconds, value = run_metric(n, Path(folder) if name != "computed" else None)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "value": value}))


def stages(n: int) -> None:
    """The table of stages, each in a fresh process; times of sets scaled to all volumes where n is less."""
    print(f"\n{machine()}\n\nvolumes measured: {n} + {n}" + (f", features scaled to {VOLUMES}" if n < VOLUMES else ""))
    print(f"\n| {VOLUMES} + {VOLUMES} volumes | seconds | a volume | peak memory |\n| --- | --- | --- | --- |")
    values = set()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("computed", "kept", "found", "neighbours"):
            count = VOLUMES if name == "neighbours" else n
            env = {**os.environ, _STAGE: f"{name} {count} {folder}"}
            done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            values.add(result["value"])
            for what, seconds in result["seconds"].items():
                a_volume = f"{1e3 * seconds / (2 * count):.1f} ms" if what in ("features", "volumes made") else "-"
                whole = seconds * VOLUMES / count if a_volume != "-" else seconds
                if what != "volumes made":
                    print(f"| {what}, {name} | {whole:.2f} | {a_volume} | {result['peak_mb']:.0f} MB |", flush=True)
    if len(values - {None}) > 1:
        raise SystemExit(f"the cache changes the score: {values}")


def main() -> None:
    if _STAGE in os.environ:
        name, n, folder = os.environ[_STAGE].split()
        stage(name, int(n), folder)
        return
    extraction()
    if "GEN_BENCHMARK_SIDE" not in os.environ and "--json" not in sys.argv:
        stages(FEW if "--quick" in sys.argv else VOLUMES)


if __name__ == "__main__":
    main()
