"""A comparison as text: Markdown, CSV, LaTeX and plain columns."""

from __future__ import annotations

import csv
import io
from typing import Any

from gen_core.run.studies.comparable import ABSENT
from gen_core.run.studies.compare import Comparison
from gen_core.run.studies.scores import COST, Score

ARROW = {"lower": "↓", "higher": "↑", "match": "→ floor", "": ""}
LATEX_ARROW = {"↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$"}
ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def number(value: Any, digits: int = 4) -> str:
    """A figure with so many significant digits, no exponent for what a reader counts; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return str(value)


def setting(value: Any) -> str:
    """A setting in a cell: [8, 8, 8] as 8 x 8 x 8."""
    if isinstance(value, list):
        return " x ".join(setting(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value)


def cell(score: Score | None, floor: bool) -> str:
    """value [low, high], and the floor where it is not the same for all runs."""
    if score is None:
        return "–"
    text = number(score.value)
    if score.low is not None and score.high is not None:
        text += f" [{number(score.low, 3)}, {number(score.high, 3)}]"
    return text + (f", floor {number(score.floor, 3)}" if floor and score.floor is not None else "")


def title(found: Comparison, ref: str) -> str:
    """The name of a figure, its direction, and the floor where all runs share it."""
    score, floors = found.head(ref), _floors(found, ref)
    name = score.name if score.metric in (COST, score.name) else f"{score.metric}, {score.name}"
    name += f", {score.source}" if score.source else ""
    name += f" / {score.against}" if score.against not in ("", "val") else ""
    name += f" {ARROW.get(score.better, '')}".rstrip()
    (floor,) = floors if len(floors) == 1 else (None,)
    return name + (f" (floor {number(floor, 3)})" if floor is not None else "")


def _floors(found: Comparison, ref: str) -> set[float | None]:
    return {run.scores[ref].floor for run in found.runs if ref in run.scores}


def grid(found: Comparison) -> list[list[str]]:
    """Head and rows of cells: a row a run, settings first; a run on the Pareto front is marked by a star."""
    short = {key: _short(key, found.differing) for key in found.differing}
    rows = [["run", *short.values(), *(title(found, ref) for ref in found.refs)]]
    for run in found.runs:
        settings = [setting(run.settings.get(key, ABSENT)) for key in found.differing]
        scores = [cell(run.scores.get(ref), len(_floors(found, ref)) > 1) for ref in found.refs]
        rows.append([run.name + (" *" if run.name in found.front else ""), *settings, *scores])
    return rows


def _short(key: str, keys: list[str]) -> str:
    """The end of a dotted key that no other key shares: codec.codes -> codes."""
    parts = key.split(".")
    for n in range(1, len(parts)):
        end = ".".join(parts[-n:])
        if end != "use" and not any(other != key and other.endswith(f".{end}") for other in keys):
            return end
    return parts[0] if parts[1:] == ["use"] else key


def readable(found: Comparison) -> list[list[str]]:
    """The grid, turned on its side where a row a run would be wider than a row a figure."""
    rows = grid(found)
    return rows if len(rows) > len(rows[0]) else [list(column) for column in zip(*rows)]


def notes(found: Comparison) -> list[str]:
    """What must be said beside the table."""
    lines = ["[low, high] is each figure's own interval; ↓ lower, ↑ higher is better, → floor: as near to it as can be"]
    if found.pareto:
        lines.append(f"* on the Pareto front of {' and '.join(title(found, ref) for ref in found.pareto)}")
    return lines + found.notes


def markdown(found: Comparison) -> str:
    """A table for a document; the notes stand under it."""
    head, *rows = ([c.replace("|", "\\|") for c in row] for row in readable(found))
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return table + "\n\n" + "\n".join(f"- {line}" for line in notes(found)) + "\n"


def latex(found: Comparison) -> str:
    """A booktabs table."""
    head, *rows = ([_tex(c) for c in row] for row in readable(found))
    body = " \\\\\n".join(" & ".join(row) for row in rows)
    comments = "".join(f"% {line}\n" for line in notes(found))
    start = f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n"
    return f"{comments}{start}{' & '.join(head)} \\\\\n\\midrule\n{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n"


def _tex(text: str) -> str:
    return "".join(LATEX_ARROW.get(c) or ESCAPED.get(c, c) for c in text).replace("–", "--")


def as_csv(found: Comparison) -> str:
    """A row a run: settings, then value, low, high, floor and n of every figure; full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("value", "low", "high", "floor", "n")
    named = [name for ref in found.refs for name in (ref, *(f"{ref} {part}" for part in parts[1:]))]
    writer.writerow(["run", *found.differing, *(["front"] if found.pareto else []), *named])
    for run in found.runs:
        row: list[Any] = [run.name, *(run.settings.get(key, "") for key in found.differing)]
        row += [run.name in found.front] if found.pareto else []
        for ref in found.refs:
            score = run.scores.get(ref)
            row += [getattr(score, part) if score else None for part in parts]
        writer.writerow(row)
    return out.getvalue()


def plain(found: Comparison) -> str:
    """Aligned columns for a terminal; the notes stand under them."""
    rows = readable(found)
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *notes(found)]) + "\n"
