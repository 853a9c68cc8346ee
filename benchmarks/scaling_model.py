"""Scaling to 64 GPUs: a model of training and sampling, and what this machine measures on one and two processes.

    python benchmarks/scaling_model.py               # model: tables to stdout, docs/images/scaling.svg
    python benchmarks/scaling_model.py --measure     # one and two processes on this machine's CPU, a table

The model takes weights and arithmetic from the dry run of recipes/hyperspectral_672.toml. A training step is three
forwards at the rate a GPU sustains, one all-reduce of all gradients (float32, a ring, after the last micro-batch:
nothing overlaps) and one pass of the optimizer over its states. A sample is its network calls and one decode; shards
share no word. What is assumed stands in GPUS, LINK and the constants beside them; no figure of the model was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import machine

RECIPE = "recipes/hyperspectral_672.toml"
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "scaling.svg"
COUNTS = (1, 2, 4, 8, 16, 32, 64)
NODE = 8  # GPUs of a node
SUSTAINED = 0.4  # of a GPU's dense bf16 peak: an assumption, to be replaced by what a GPU measures
# name -> dense bf16 peak (TFLOP/s) and memory (TB/s), from the data sheets; GB/s each way between GPUs of a node that
# a ring sustains, 80 % of nominal: NVLink 4 (450) on the H200, PCIe 4.0 x16 (31.5) on the A40, whose NVLink joins pairs
GPUS = {"H200": (989.0, 4.8, 360.0), "A40": (149.7, 0.696, 25.0)}
LINK = 22.5  # GB/s each way through one 200 Gb/s InfiniBand port (25), 90 % of it
PORTS = (1, 8)  # of a node: what a node has at least; one beside each GPU
LATENCY = 5e-6  # seconds of one hop of a ring
STATES = 9  # passes over the weights in float32 by Adam and the average: weights 2, gradients 1, moments 4, average 2
PER_GPU, WHOLE = 8, 64  # rows of a GPU's batch (weak scaling), of the whole batch (strong scaling)
STEPS = 50  # denoising steps of a sample
SMALL = (
    "dataset.subjects=24", "codec.fit.steps=8", "prior.base=64", "prior.fit.steps=40", "prior.fit.batch=16",
    "prior.fit.validate_every=1000", "prior.fit.checkpoint_every=1000", "volume.size=[8, 64, 64]", 'device="cpu"',
)  # fmt: skip


def counts() -> dict[str, float]:
    """Weights of the prior and GFLOP of one call of it and of one decode, from the dry run."""
    from gen_core.run import api

    plan = api.plan(api.RunRequest(RECIPE))
    return {"weights": plan["parameters"]["prior"], **{k: plan["gflop"][k] for k in ("denoise", "decode")}}


def ring_seconds(bytes_: float, n: int, within: float, ports: int) -> float:
    """A ring all-reduce: 2 (n - 1) / n of the bytes through the slowest link, and 2 (n - 1) hops."""
    link = within if n <= NODE else min(within, ports * LINK)
    return 2 * (n - 1) / n * bytes_ / (link * 1e9) + 2 * (n - 1) * LATENCY


def training(gpu: str, n: int, rows: float, of: dict[str, float], ports: int = 1) -> dict[str, float]:
    """A training step with `rows` samples a GPU: seconds of each part, samples/s of all GPUs."""
    peak, memory, within = GPUS[gpu]
    compute = rows * 3 * of["denoise"] * 1e9 / (SUSTAINED * peak * 1e12)
    optimizer = STATES * 4 * of["weights"] / (memory * 1e12)
    reduce = ring_seconds(4 * of["weights"], n, within, ports) if n > 1 else 0.0
    total = compute + optimizer + reduce
    return {"compute": compute, "optimizer": optimizer, "reduce": reduce, "step": total, "rate": n * rows / total}


def sampling(gpu: str, n: int, of: dict[str, float]) -> float:
    """Images/s of n GPUs at 672 x 672 x 16, decode included; each takes every n-th chunk."""
    gflop = STEPS * of["denoise"] + of["decode"]
    return n * SUSTAINED * GPUS[gpu][0] * 1e3 / gflop


def table(of: dict[str, float]) -> list[str]:
    """The model as Markdown."""
    weights, forward, decode = of["weights"] / 1e6, of["denoise"], of["decode"]
    lines = [f"{weights:.2f} M weights, {forward:.0f} GFLOP a forward, {decode:.0f} a decode.", ""]
    heads = ["GPU", "GPUs", "ports of a node", "all-reduce"]
    heads += [f"weak, {PER_GPU} rows a GPU: step, samples/s, efficiency"]
    heads += [f"strong, {WHOLE} rows in all: step, samples/s, efficiency", f"images/s, {STEPS} steps"]
    lines += [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for gpu in GPUS:
        for n in COUNTS:
            for ports in PORTS if n > NODE else PORTS[:1]:
                weak, strong = training(gpu, n, PER_GPU, of, ports), training(gpu, n, WHOLE / n, of, ports)
                cells = [gpu, str(n), str(ports) if n > NODE else "-", f"{1e3 * weak['reduce']:.0f} ms"]
                for row, rows in ((weak, PER_GPU), (strong, WHOLE)):
                    share = row["rate"] / (n * training(gpu, 1, rows, of)["rate"])
                    cells.append(f"{1e3 * row['step']:.0f} ms, {row['rate']:.1f}, {100 * share:.0f} %")
                lines.append(f"| {' | '.join([*cells, f'{sampling(gpu, n, of):.2f}'])} |")
    return lines


def draw(of: dict[str, float], path: Path) -> None:
    """Training rate against GPUs, weak and strong, with the line of perfect scaling; sampling beside it."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "scaling", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    kinds = {
        f"training, {PER_GPU} rows a GPU (weak)": lambda gpu, n, p: training(gpu, n, PER_GPU, of, p)["rate"],
        f"training, {WHOLE} rows in all (strong)": lambda gpu, n, p: training(gpu, n, WHOLE / n, of, p)["rate"],
        f"sampling, {STEPS} steps, with decode": lambda gpu, n, p: sampling(gpu, n, of),
    }
    for panel, (title, rate) in zip(panels, kinds.items()):
        for gpu, colour in zip(GPUS, ("#1b6ca8", "#c8553d")):
            panel.plot(COUNTS, [n * rate(gpu, 1, 1) for n in COUNTS], color=colour, lw=0.8, ls=":")
            for ports, style in zip(PORTS, ("-", "--")):
                label = f"{gpu}, {ports} port{'s' if ports > 1 else ''} a node"
                panel.plot(COUNTS, [rate(gpu, n, ports) for n in COUNTS], style, color=colour, label=label)
        panel.set(title=title, xlabel="GPUs", xscale="log", yscale="log", xticks=COUNTS)
        panel.set_xticklabels([str(n) for n in COUNTS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("volumes of 672 x 672 x 16 a second")
    panels[0].legend(frameon=False, loc="lower right", fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def measure() -> None:
    """The fit of a small prior by one and by two processes of this machine, one thread each."""
    print(f"{machine()}; one thread a process\n")
    print("| processes | 40 updates of 16 rows | processor time |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="gen-scaling-") as scratch:
        for n in (1, 2):
            folder = Path(scratch) / str(n) / "run"
            settings = [word for setting in SMALL for word in ("--set", setting)]
            gen = ["-m", "gen_cli.main", "run", "tiny", "--out", str(folder), "--until", "fit.prior", *settings]
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), *gen]
            before = os.times()
            done = subprocess.run(launch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            after = os.times()
            spent = after.children_user + after.children_system - before.children_user - before.children_system
            cost: dict[str, Any] = json.loads((folder / "steps" / "fit.prior" / "cost.json").read_text())
            print(f"| {n} | {cost['seconds']:.1f} s | {spent:.1f} s, whole run |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--measure", action="store_true", help="one and two processes on this machine")
    if arguments.parse_args().measure:
        measure()
        return
    of = counts()
    print("\n".join(table(of)))
    draw(of, FIGURE)


if __name__ == "__main__":
    main()
