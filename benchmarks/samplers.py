"""Samplers at equal network evaluations on one fitted prior: Frechet distance to validation, table and figure.

    gen run recipes/lidc_ddpmpp_phantom.toml
    OMP_NUM_THREADS=1 python benchmarks/samplers.py runs/lidc-ddpmpp-phantom [-n 256] [--budgets 20,50,100,300]

Every sampler starts from the same noise and is given a budget of network evaluations: one a step of ancestral, DDIM,
Euler-Maruyama, DPM++ and UniPC, two of Heun and predictor-corrector; the adaptive ODE solver takes what its tolerance
needs, which is counted. Distances are those of the recipe's metric `fid`, with its interval and floor. Written between
the markers of docs/results.md, and as docs/images/samplers.svg.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from gen_core import atomic
from gen_core.batch import Batch
from gen_core.engine.seeds import sample_noise
from gen_core.engine.stop import StopFlag
from gen_core.run.api import Silent, open_run
from gen_core.run.context import RunContext
from gen_core.run.evaluation import EvaluationContext
from gen_core.run.sample_conditions import SampleConditions
from gen_core.run.sampling import latents_from, noise_shape, sample_seed

BEGIN, END = "<!-- samplers: begin -->", "<!-- samplers: end -->"
SAMPLERS = {  # name: network evaluations a step
    "ddpm": 1,
    "ddim": 1,
    "euler-maruyama": 1,
    "predictor-corrector": 2,
    "dpm++2m": 1,
    "dpm++2m-sde": 1,
    "unipc": 1,
    "heun": 2,
}
LONG = 100  # evaluations
TOLERANCES = (1e-1, 1e-2, 1e-3)  # of the adaptive solver
MARKS = dict(zip((*SAMPLERS, "ode"), "osD^v<>P*"))


class Distances:
    """The run's metric `fid`, which has seen validation and training volumes once."""

    def __init__(self, ctx: RunContext):
        table = ctx.recipe.table("metrics.fid")
        self.metric = table.component.build(table.options, EvaluationContext(ctx, {}))
        for name in ("val", "train"):
            for batch in ctx.batches(ctx.split(name), 64):
                self.metric.update(batch, name)

    def of(self, x: torch.Tensor) -> dict[str, Any]:
        """The value of samples x against validation, as JSON."""
        metric = copy.copy(self.metric)
        metric.features = dict(self.metric.features)  # what the real volumes gave is shared
        metric.update(Batch(x, [f"sample-{i:06d}" for i in range(len(x))]), "synthetic")
        values = metric.compute().to_json()["values"]
        return next(v for v in values if v["name"] == "fid" and v["source"] == "synthetic")


def draw(ctx: RunContext, sampler: Any, steps: int, n: int) -> tuple[torch.Tensor, int, float]:
    """(volumes, network evaluations of a sample, seconds) of n samples under the run's conditions."""
    prior, options = ctx.prior(), evolve(ctx.recipe.sample, steps=steps, guidance=1.0)
    seed, volumes, calls, start = sample_seed(ctx), [], [], time.perf_counter()
    told = SampleConditions(ctx, seed) if ctx.recipe.conditions else None
    watch = lambda t, *_: calls.append(t)
    chunks = range(0, n, options.batch)
    for first in chunks:
        rows = list(range(first, min(first + options.batch, n)))
        noise = sample_noise(seed, rows, noise_shape(prior))
        with torch.no_grad():
            z = latents_from(noise, prior, sampler, options, ctx.device, watch, told.of(rows)[0] if told else None)
            volumes.append(ctx.codec().decode(z).float())
    return torch.cat(volumes), round(len(calls) / len(chunks)), time.perf_counter() - start


def measure(ctx: RunContext, budgets: list[int], n: int, long: list[str]) -> list[dict[str, Any]]:
    """A row for every sampler and budget; beyond LONG evaluations only of the samplers named."""
    distances, rows = Distances(ctx), []

    def row(name: str, settings: dict[str, Any], steps: int, budget: int | None) -> None:
        component = ctx.registry.get("sampler", name)
        sampler = component.build(component.options_class()(**settings), None)
        x, calls, seconds = draw(ctx, sampler, steps, n)
        found = distances.of(x) if torch.isfinite(x).all() else {"value": float("nan"), "low": None, "high": None}
        facts = {"sampler": name, "settings": settings, "budget": budget, "evaluations": calls, "seconds": seconds}
        rows.append({**facts, **found})
        print(f"{name:20s} {calls:5d} evaluations  {found['value']:.4g}  {seconds:.0f} s", flush=True)

    for budget in budgets:
        for name, each in SAMPLERS.items():
            if budget <= LONG or not long or name in long:
                row(name, {}, max(1, budget // each), budget)
    for tolerance in TOLERANCES:
        row("ode", {"rtol": tolerance, "atol": tolerance}, 1, None)
    return rows


def cell(row: dict[str, Any] | None) -> str:
    """A distance with its interval; a dash where none was taken."""
    if row is None:
        return "-"
    interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["low"] is not None else ""
    return f"{row['value']:.3g}{interval}"


def floor_of(rows: list[dict[str, Any]]) -> float | None:
    return next((r["floor"] for r in rows if r.get("floor") is not None), None)


def table(rows: list[dict[str, Any]], budgets: list[int], n: int, run: Path) -> str:
    """Markdown: samplers by budget, the adaptive solver beside what it took."""
    by = {(r["sampler"], r["budget"]): r for r in rows}
    floor = floor_of(rows)
    said = f", floor {floor:.3g}" if floor is not None else ""
    lines = [
        f"`python benchmarks/samplers.py runs/{run.name} -n {n}`: N = {n} samples from the same noise, Frechet",
        f"distance to validation (`metrics.fid`, 95 % interval){said}.",
        "",
        f"| sampler | {' | '.join(f'{b} evaluations' for b in budgets)} |",
        f"| --- |{' --- |' * len(budgets)}",
    ]
    lines += [f"| {name} | {' | '.join(cell(by.get((name, b))) for b in budgets)} |" for name in SAMPLERS]
    adaptive = [
        f"{r['evaluations']} evaluations at tolerance {r['settings']['rtol']:g}: {cell(r)}"
        for r in rows
        if r["sampler"] == "ode"
    ]
    lines += ["", f"The adaptive ODE solver: {'; '.join(adaptive)}."]
    lines += ["", "![Frechet distance over network evaluations](images/samplers.svg)"]
    few, many = min(budgets), max(budgets)
    slow = by["ddpm", many]["value"]
    lines += ["", f"With {few} evaluations against ancestral sampling with {many} ({slow:.3g}; mark: at most +10 %):"]
    for name in ("dpm++2m", "dpm++2m-sde"):
        quick = by[name, few]["value"]
        lines += [f"- {name} {quick:.3g}, {100 * (quick / slow - 1):+.0f} %"]
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Distance over evaluations, a line a sampler."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, mark in MARKS.items():
        mine = sorted((r["evaluations"], r["value"]) for r in rows if r["sampler"] == name)
        ax.plot(*zip(*mine), marker=mark, ms=5, lw=1.2, label=name)
    floor = floor_of(rows)
    if floor is not None and floor > 0:
        ax.axhline(floor, color="0.6", lw=1, ls="--")
        ax.text(ax.get_xlim()[1], floor, " floor", va="center", fontsize=8, color="0.4")
    ax.set(xscale="log", yscale="log", xlabel="network evaluations a sample", ylabel="Frechet distance to validation")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--budgets", default="20,50,100,300")
    parser.add_argument("--long", default="", help=f"the only samplers asked for more than {LONG} evaluations")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    asked = parser.parse_args()
    budgets = [int(b) for b in asked.budgets.split(",")]
    recipe, registry, folder = open_run(asked.run)
    ctx = RunContext(recipe, registry, folder, torch.device("cpu"), Silent(), StopFlag())
    rows = measure(ctx, budgets, asked.n, [name for name in asked.long.split(",") if name])
    figure(rows, asked.page.parent / "images" / "samplers.svg")
    text = asked.page.read_text()
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Samplers at equal cost\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    body = table(rows, budgets, asked.n, asked.run)
    atomic.write_text(asked.page, f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
