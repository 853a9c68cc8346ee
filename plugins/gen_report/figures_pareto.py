"""The Pareto front of several runs: one score against another, the runs that nobody beats joined by a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core import atomic
from gen_core.errors import UsageError
from gen_report.house_style import MUTED, SOURCE_COLOUR, drawing

FORMATS = {".png": {"dpi": 160, "metadata": {"Software": None}}, ".svg": {"metadata": {"Date": None}}}
BETTER = {"lower": "lower is better", "higher": "higher is better", "match": "as near to the floor as can be"}


def write(comparison: Any, path: Path) -> Path:
    """Draw the comparison's two Pareto figures against each other. Raises: UsageError for other kinds of file."""
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: a figure is written as {' or '.join(FORMATS)}")
    if comparison.pareto is None:
        raise UsageError(f"{path}: a figure needs --pareto X,Y")
    with drawing(6.4, 4.4) as figure:
        draw(figure, comparison)
        with atomic.replacing(path) as beside:
            figure.savefig(beside, **FORMATS[path.suffix])
    return path


def draw(figure: Any, comparison: Any) -> None:
    """Points with names and intervals, those on the front joined by a line, the floor dotted."""
    axes = figure.add_subplot()
    x, y = comparison.pareto
    runs = [run for run in comparison.runs if x in run.scores and y in run.scores]
    for run in runs:
        one, other = run.scores[x], run.scores[y]
        on = run.name in comparison.front
        colour = SOURCE_COLOUR["synthetic"] if on else MUTED
        spread = {"xerr": _whisker(one), "yerr": _whisker(other), "elinewidth": 0.8, "capsize": 2, "alpha": 0.7}
        axes.errorbar(one.value, other.value, fmt="none", ecolor=colour, **spread)
        axes.plot(one.value, other.value, "o" if on else "s", color=colour, markersize=6 if on else 5)
        place = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(run.name, (one.value, other.value), color=colour, **place)
    points = sorted((run.scores[x].value, run.scores[y].value) for run in runs if run.name in comparison.front)
    if len(points) > 1:
        axes.plot(*zip(*points), "-", color=SOURCE_COLOUR["synthetic"], linewidth=1, alpha=0.6)
    floor = next((run.scores[y].floor for run in runs if run.scores[y].floor is not None), None)
    if floor is not None:
        axes.axhline(floor, color=SOURCE_COLOUR["val"], linestyle=":", linewidth=1)
        axes.annotate("floor", (1, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xlabel(_label(comparison.head(x)))
    axes.set_ylabel(_label(comparison.head(y)))
    axes.margins(0.12)
    axes.set_title("round: on the Pareto front, no other run is better in both")


def _whisker(score: Any) -> list[list[float]] | None:
    """Distances from the value to both ends of its interval, as errorbar wants them."""
    if score.low is None or score.high is None:
        return None
    return [[max(0.0, score.value - score.low)], [max(0.0, score.high - score.value)]]


def _label(score: Any) -> str:
    """What an axis shows: figure, source, number of volumes, direction."""
    name = score.name if score.metric in ("cost", score.name) else f"{score.metric}, {score.name}"
    parts = [name.replace("-", " ") if score.metric == "cost" else name, score.source]
    parts += [f"N = {score.n}" if score.n else "", BETTER.get(score.better, "")]
    return ", ".join(part for part in parts if part)
