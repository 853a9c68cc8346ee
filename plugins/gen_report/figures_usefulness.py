"""What samples and features are worth: probes beside the best possible observer, recovery of transformed originals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gen_report.gathered import Gathered
from gen_report.house_style import MUTED, SOURCE_COLOUR, Picture, as_svg, drawing

Value = dict[str, Any]  # a `gen_core.metric.Value` as JSON
ROWS = 30  # of a ladder


def utility(got: Gathered) -> list[Picture]:
    """Area under the ROC curve of each probe, with interval, beside the ceiling of the data."""
    return [p for metric in of_use(got, "utility") if (p := _utility(got, metric)) is not None]


def recovery(got: Gathered) -> list[Picture]:
    """Share of transformed originals that are found again, feature by feature."""
    return [p for metric in of_use(got, "recovery") if (p := _recovery(got, metric)) is not None]


def of_use(got: Gathered, use: str) -> list[str]:
    """Names of the metric tables that use a component; a table without `use` is named after it."""
    tables = (got.run.recipe or {}).get("metrics") or {}
    uses = {name: (tables.get(name) or {}).get("use", name) for name in got.results}
    return [name for name, used in uses.items() if used == use]


def _utility(got: Gathered, metric: str) -> Picture | None:
    values = _numbers(got.results[metric])
    ceilings = [v for v in values if v["name"].startswith("auc, ceiling")]
    probes = [v for v in values if v["name"].startswith("auc, ") and v not in ceilings]
    if not probes:
        return None
    rows = [(v["name"].removeprefix("auc, "), v) for v in probes]
    lines = [(0.5, "chance"), *((v["value"], "ceiling") for v in ceilings[-1:])]
    uri = ladder(rows, lines, "area under the ROC curve")
    protocol = got.results[metric].get("protocol") or {}
    counts = protocol.get("n")
    n = ", ".join(f"{k} {v}" for k, v in counts.items()) if isinstance(counts, dict) else str(probes[0].get("n", "?"))
    best = f" Ceiling: the best observer that knows how the data were made reaches {lines[-1][0]:.3f}." * bool(ceilings)
    gains = [v for v in values if v["name"].startswith("auc gain")]
    said = "; ".join(f"{v['name'].removeprefix('auc gain, ')} {v['value']:+.3f}{interval(v)}" for v in gains)
    return Picture(
        f"Telling '{protocol.get('label', 'the label')}' from features",
        f"Probes fitted on training volumes, scored on validation volumes (N: {n}), with 95 % intervals.{best}"
        f"{f' Gains: {said}.' if said else ''}",
        f"Areas under the ROC curve of {', '.join(name for name, _ in rows)}, with chance and ceiling.",
        uri,
        640,
    )


def _recovery(got: Gathered, metric: str) -> Picture | None:
    values = [v for v in _numbers(got.results[metric]) if 0 <= v["value"] <= 1]
    if not values:
        return None
    shown = values[:ROWS]
    uri = ladder([(v["name"], v) for v in shown], [(0.0, ""), (1.0, "all")], "share of originals found again")
    more = f" {len(values) - ROWS} more stand in the scores." if len(values) > ROWS else ""
    counts = sorted({v["n"] for v in shown if v.get("n")})
    return Picture(
        "Which features find a copy again",
        "Transformed originals are looked for among all originals; a feature space that does not find them cannot "
        f"show that nothing was copied. N = {', '.join(map(str, counts)) or 'see the scores'}.{more}",
        f"Recovery rates of {len(shown)} combinations of features, distances and transforms.",
        uri,
        640,
    )


def ladder(rows: Sequence[tuple[str, Value]], lines: Sequence[tuple[float, str]], what: str) -> str:
    """One row a value, its interval as a whisker; upright lines with names. Returns the data URI."""
    colour = SOURCE_COLOUR["synthetic"]
    with drawing(6.2, 0.75 + 0.27 * len(rows)) as figure:
        ax = figure.subplots()
        for y, (_, v) in enumerate(rows):
            if v.get("low") is not None and v.get("high") is not None:
                ax.plot([v["low"], v["high"]], [y, y], color=colour, linewidth=1.6, alpha=0.6)
            ax.plot(v["value"], y, "o", color=colour, markersize=5)
            place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 7.5}
            ax.annotate(f"{v['value']:.3g}", (v["value"], y), color=MUTED, **place)
        for at, name in lines:
            ax.axvline(at, color=MUTED, linestyle="--", linewidth=1)
            place = {"xytext": (-3, 2), "textcoords": "offset points", "ha": "right", "fontsize": 8}
            ax.annotate(name, (at, 0), xycoords=("data", "axes fraction"), color=MUTED, **place)
        ax.set_yticks(range(len(rows)), [name for name, _ in rows])
        ax.set_ylim(len(rows) - 0.4, -0.8)
        ax.set_xlabel(what)
        ax.grid(axis="y", visible=False)
        return as_svg(figure)


def interval(value: Value) -> str:
    """ " (low … high)" where there is one."""
    low, high = value.get("low"), value.get("high")
    return "" if low is None or high is None else f" ({low:.3g} … {high:.3g})"


def _numbers(result: dict[str, Any]) -> list[Value]:
    """The values that are numbers and have a name."""
    found = result.get("values") or []
    return [v for v in found if isinstance(v.get("value"), (int, float)) and isinstance(v.get("name"), str)]
