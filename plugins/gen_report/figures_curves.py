"""Curves over training: losses, perplexity, code use, validation, one small panel a value."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from gen_report.gathered import Gathered
from gen_report.house_style import SOURCE_COLOUR, Picture, as_svg, drawing

POINTS = 300  # a curve; longer ones are averaged
PANELS = 12  # a stage
LAST = ("grad_norm", "lr")
Curve = list[tuple[int, float]]


def by_stage(events: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Curve]]]:
    """stage -> value name -> kind ("train", "validation", "epoch") -> (step, value) in order."""
    found: dict[str, dict[str, dict[str, Curve]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for event in events or []:
        if event.get("kind") not in ("train", "validation", "epoch"):
            continue
        for name, value in (event.get("values") or {}).items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found[event.get("stage", "")][name][event["kind"]].append((event.get("step", 0), float(value)))
    return found


def thinned(curve: Curve, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, averaged in groups when there are more than `points`."""
    steps, values = np.array([s for s, _ in curve], float), np.array([v for _, v in curve], float)
    group = -(-len(curve) // points)
    if group > 1:
        keep = len(curve) // group * group
        steps, values = (a[:keep].reshape(-1, group).mean(1) for a in (steps, values))
    return steps, values


def curves(got: Gathered) -> list[Picture]:
    """One figure a fitted stage."""
    return [p for stage, values in by_stage(got.run.events).items() if (p := _stage(stage, values))]


def _stage(stage: str, values: dict[str, dict[str, Curve]]) -> Picture | None:
    # a value seen once is no curve
    names = [n for n, kinds in values.items() if any(len(c) > 1 for c in kinds.values())]
    names.sort(key=lambda n: (n.rpartition("/")[2] in LAST, n != "loss"))
    left_out = len(names) - PANELS
    names = names[:PANELS]
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    with drawing(3.35 * columns, 1.95 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax in axes.ravel()[len(names) :]:
            ax.set_visible(False)
        for ax, name in zip(axes.ravel(), names):
            _draw(ax, name, values[name])
        uri = as_svg(figure)
    last = max(step for kinds in values.values() for curve in kinds.values() for step, _ in curve)
    more = f" {left_out} further values stand in events.jsonl." if left_out > 0 else ""
    dots = " Dots: validation volumes." if any("validation" in values[n] for n in names) else ""
    return Picture(
        stage,
        f"Over {last} optimizer steps; lines: training batches, averaged between log lines.{dots}{more}",
        f"Curves of {', '.join(names)} over the steps of {stage}.",
        uri,
        345 * columns,
    )


def _draw(ax: Any, name: str, kinds: dict[str, Curve]) -> None:
    low, high = math.inf, -math.inf
    for kind, curve in kinds.items():
        steps, values = thinned(curve)
        low, high = min(low, values.min()), max(high, values.max())
        if kind == "validation":
            ax.plot(steps, values, "o-", color=SOURCE_COLOUR["synthetic"], markersize=3.5, linewidth=1)
        elif kind == "epoch":
            ax.plot(steps, values, "-", color=SOURCE_COLOUR["train"], drawstyle="steps-post")
        else:
            ax.plot(steps, values, color=SOURCE_COLOUR["reconstruction"])
    ax.set_title(name.replace("_", " "))
    ax.ticklabel_format(axis="x", style="plain")
    ax.locator_params(axis="x", nbins=5)
    if low > 0 and high / low > 20:
        ax.set_yscale("log")
