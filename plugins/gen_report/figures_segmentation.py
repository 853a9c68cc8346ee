"""How sure found structures are: precision of each class before and after post-processing."""

from __future__ import annotations

from typing import Any

from gen_report.gathered import Gathered
from gen_report.house_style import MUTED, SOURCE_COLOUR, Picture, as_svg, drawing

STAGES = ("before", "after")
KINDS = ("precision", "recall", "dice")


def rows(got: Gathered) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(class, stage -> row) from the `table` of a segmentation metric, where both stages are there."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in got.extra("table") or []:
        if isinstance(row, dict) and {"class", "stage", "precision"} <= set(row):
            found.setdefault(row["class"], {})[row["stage"]] = row
    return [(name, stages) for name, stages in found.items() if set(STAGES) <= set(stages)]


def precision(got: Gathered) -> Picture | None:
    """One line a class, from the hollow mark (before) to the full one (after), with the spread over volumes."""
    found = [(c, s) for c, s in rows(got) if all(s[k]["precision"].get("mean") is not None for k in STAGES)]
    if not found:
        return None
    colour = SOURCE_COLOUR["reconstruction"]
    with drawing(6.0, 0.9 + 0.42 * len(found)) as figure:
        ax = figure.subplots()
        for y, (_, stages) in enumerate(found):
            before, after = (stages[k]["precision"] for k in STAGES)
            arrow = {"arrowstyle": "->", "color": MUTED, "linewidth": 1.2, "shrinkA": 6, "shrinkB": 6}
            ax.annotate("", (after["mean"], y), (before["mean"], y), arrowprops=arrow)
            for k, part in enumerate((before, after)):
                how = {"markerfacecolor": "white" if k == 0 else colour, "color": colour, "markersize": 7, "capsize": 2}
                label = f"{STAGES[k]} post-processing" if y == 0 else None
                # two rows, so that the spreads do not cover each other
                ax.errorbar(part["mean"], y + 0.09 * (2 * k - 1), xerr=part.get("sd"), fmt="o", label=label, **how)
        ax.set_yticks(range(len(found)), [c for c, _ in found])
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_xlim(right=1.005)
        ax.set_xlabel("precision, mean ± sd over validation volumes")
        figure.legend(loc="outside lower center", ncols=2)
        uri = as_svg(figure)
    said = "; ".join(
        f"{c} {s['before']['precision']['mean']:.2f} to {s['after']['precision']['mean']:.2f} (N = {s['after']['n']})"
        for c, s in found
    )
    return Picture(
        "Precision of found structures",
        f"Before and after post-processing, which keeps what is sure for sampling spectra: {said}.",
        f"Precision of {', '.join(c for c, _ in found)} before and after post-processing.",
        uri,
        620,
    )
