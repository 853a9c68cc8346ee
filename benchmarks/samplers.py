"""Samplers at equal network evaluations on one fitted prior: Frechet distance to validation, table and figure.

    gen run recipes/lidc_ddpmpp_phantom.toml
    OMP_NUM_THREADS=1 python benchmarks/samplers.py runs/lidc-ddpmpp-phantom [-n 256] [--columns 20,50,20:edm,300]

Every sampler starts from the same noise and is given a budget of network evaluations: one a step of ancestral, DDIM,
Euler-Maruyama, DPM++ and UniPC, two of Heun and predictor-corrector; the adaptive ODE solver takes what its tolerance
needs, which is counted. "20:edm" is a budget of 20 with [sample] spacing = "edm". Distances are those of the recipe's
metric `fid`, with its interval and floor. Kept in results/samplers.json (what is there already is not measured again),
written between the markers of docs/results.md, and as docs/images/samplers.svg.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from gen_core import atomic
from gen_core.batch import Batch
from gen_core.engine.seeds import sample_noise
from gen_core.engine.stop import StopFlag
from gen_core.run.context import RunContext
from gen_core.run.opening import open_run
from gen_core.run.progress import Silent
from gen_core.run.samples.conditions import SampleConditions
from gen_core.run.samples.sampling import latents_from, noise_shape, sample_seed
from gen_core.run.scoring.evaluation import EvaluationContext

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
KEPT = Path(__file__).resolve().parent / "results" / "samplers.json"
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


Column = tuple[int, str]  # network evaluations, spacing


def draw(ctx: RunContext, sampler: Any, steps: int, spacing: str, n: int) -> tuple[torch.Tensor, int, float]:
    """(volumes, network evaluations of a sample, seconds) of n samples under the run's conditions."""
    prior, options = ctx.prior(), evolve(ctx.recipe.sample, steps=steps, spacing=spacing, guidance=1.0)
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


class Rows:
    """What was measured of one run with n samples: kept as JSON after every row."""

    def __init__(self, ctx: RunContext, run: Path, n: int):
        self.ctx, self.n, self.distances = ctx, n, None
        self.head = {"run": run.name, "n": n, "seed": sample_seed(ctx)}
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        self.rows = kept["rows"] if {k: kept.get(k) for k in self.head} == self.head else []

    def find(self, name: str, budget: int | None, spacing: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        wanted = {"sampler": name, "budget": budget, "spacing": spacing, "settings": settings}
        return next((row for row in self.rows if wanted.items() <= row.items()), None)

    def measure(self, name: str, budget: int | None, spacing: str, settings: dict[str, Any], steps: int) -> None:
        if self.find(name, budget, spacing, settings):
            return
        self.distances = self.distances or Distances(self.ctx)
        component = self.ctx.registry.get("sampler", name)
        sampler = component.build(component.options_class()(**settings), None)
        x, calls, seconds = draw(self.ctx, sampler, steps, spacing, self.n)
        found = {"value": None, "low": None, "high": None, "floor": None}
        if torch.isfinite(x).all():
            found = {key: value for key, value in self.distances.of(x).items() if key in found}
        facts = {"sampler": name, "settings": settings, "budget": budget, "spacing": spacing}
        self.rows.append({**facts, "evaluations": calls, "seconds": round(seconds, 1), **found})
        atomic.write_json(KEPT, {**self.head, "rows": self.rows})
        print(f"{name:20s} {calls:5d} evaluations, {spacing:8s} {found['value']}  {seconds:.0f} s", flush=True)


def cell(row: dict[str, Any] | None) -> str:
    """A distance with its interval; a dash where none was taken."""
    if row is None or row["value"] is None:
        return "-"
    interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["low"] is not None else ""
    return f"{row['value']:.3g}{interval}"


def floor_of(rows: list[dict[str, Any]]) -> float | None:
    return next((r["floor"] for r in rows if r.get("floor") is not None), None)


def titled(column: Column) -> str:
    budget, spacing = column
    return f"{budget} evaluations" + ("" if spacing == "path" else f", {spacing}")


def table(found: Rows, columns: list[Column]) -> str:
    """Markdown: samplers by column, the adaptive solver beside what it took."""
    floor = floor_of(found.rows)
    said = f", floor {floor:.3g}" if floor is not None else ""
    lines = [
        f"`python benchmarks/samplers.py runs/{found.head['run']} -n {found.n}`: N = {found.n} samples from the same",
        f"noise, Frechet distance to validation (`metrics.fid`, 95 % interval){said}.",
        "",
        f"| sampler | {' | '.join(map(titled, columns))} |",
        f"| --- |{' --- |' * len(columns)}",
    ]
    row = lambda name: [cell(found.find(name, *column, {})) for column in columns]
    lines += [f"| {name} | {' | '.join(row(name))} |" for name in SAMPLERS]
    adaptive = [
        f"{r['evaluations']} evaluations at tolerance {r['settings']['rtol']:g}: {cell(r)}"
        for r in found.rows
        if r["sampler"] == "ode"
    ]
    lines += ["", f"The adaptive ODE solver: {'; '.join(adaptive)}."]
    lines += ["", "![Frechet distance over network evaluations](images/samplers.svg)"]
    few, many = min(c[0] for c in columns), max(c[0] for c in columns)
    slow = found.find("ddpm", many, "path", {})
    if slow:
        lines += [
            "",
            f"In {few} evaluations, against ancestral sampling in {many} ({cell(slow)}; mark: at most +10 %):",
        ]
        for name in ("dpm++2m", "dpm++2m-sde"):
            for column in (c for c in columns if c[0] == few):
                quick = found.find(name, *column, {})
                if quick:
                    change = 100 * (quick["value"] / slow["value"] - 1)
                    lines.append(f"- {name}, {titled(column)}: {quick['value']:.3g}, {change:+.0f} %")
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Distance over evaluations, a line a sampler; dashed where the times are not the path's own."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "samplers"
    fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for i, (name, mark) in enumerate(MARKS.items()):
        for spacing in sorted({r["spacing"] for r in rows}, key=lambda s: s != "path"):
            those = [r for r in rows if (r["sampler"], r["spacing"]) == (name, spacing) and r["value"] is not None]
            mine = sorted((r["evaluations"], r["value"]) for r in those)
            if mine:
                own = spacing == "path"
                label = name if own else None
                ax.plot(*zip(*mine), color=f"C{i}", marker=mark, ms=5, lw=1.2, ls="-" if own else "--", label=label)
    floor = floor_of(rows)
    if floor is not None and floor > 0:
        ax.axhline(floor, color="0.6", lw=1, ls="--")
        across = ax.get_yaxis_transform()
        ax.text(0.98, floor, "training volumes", va="top", ha="right", fontsize=8, color="0.4", transform=across)
    ax.set(xscale="log", yscale="log", xlabel="network evaluations a sample", ylabel="Frechet distance to validation")
    for axis, at in ((ax.xaxis, (20, 50, 100, 300)), (ax.yaxis, (5, 10, 20, 50, 100, 200))):
        axis.set_ticks(at, labels=map(str, at))
        axis.set_minor_formatter("")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("--columns", default="20,50,20:edm,50:edm,300", help="evaluations[:spacing], comma between")
    parser.add_argument("--long", default="ddpm,euler-maruyama", help=f"who is asked for more than {LONG} evaluations")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    asked = parser.parse_args()
    parted = [column.partition(":") for column in asked.columns.split(",")]
    columns = [(int(budget), spacing or "path") for budget, _, spacing in parted]
    recipe, registry, folder = open_run(asked.run)
    ctx = RunContext(recipe, registry, folder, torch.device("cpu"), Silent(), StopFlag())
    found = Rows(ctx, asked.run, asked.n)
    for budget, spacing in columns:
        for name, each in SAMPLERS.items():
            if budget <= LONG or name in asked.long.split(","):
                found.measure(name, budget, spacing, {}, max(1, budget // each))
    for tolerance in TOLERANCES:
        found.measure("ode", None, "path", {"rtol": tolerance, "atol": tolerance}, 1)
    figure(found.rows, asked.page.parent / "images" / "samplers.svg")
    before, _, rest = asked.page.read_text().partition(BEGIN)
    atomic.write_text(asked.page, f"{before}{BEGIN}\n\n{table(found, columns)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
