"""`gen compare`: finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_cli.arguments import Debug, Json
from gen_cli.show import as_json

FIGURES = (".png", ".svg")
FORMS = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs or of sweeps.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Only this one, e.g. fid or fid:fid:synthetic. Repeatable."),
    ] = None,
    pareto: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Mark the Pareto front, e.g. samples-per-second,hyperspectral-fid."),
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="As Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, with full precision.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="As a LaTeX table.")] = False,
    json_: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write there: .md, .csv, .tex, .json, or the front as .png or .svg."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Scores with intervals and floors, and costs, of several runs; what was measured differently is refused."""
    from gen_core.errors import UsageError

    chosen = [form for form, on in (("md", md), ("csv", csv), ("latex", latex), ("json", json_)) if on]
    if len(chosen) > 1:
        raise UsageError(f"one form at a time, not {' and '.join(f'--{form}' for form in chosen)}")
    if out and out.suffix not in (*FIGURES, *FORMS):
        raise UsageError(f"--out {out}: expected a name that ends in {', '.join((*FIGURES, *FORMS))}")
    if out and out.suffix in FIGURES and not pareto:
        raise UsageError(f"--out {out}: a figure needs --pareto X,Y")
    from gen_core.run.studies import compare as comparing

    found = comparing.compare(runs, tuple(metric or ()), comparing.split_pair(pareto) if pareto else None)
    if out and out.suffix in FIGURES:
        comparing.draw(found, out)
    elif out:
        from gen_core import atomic

        atomic.write_text(out, text(found, FORMS[out.suffix]))
    if not out or out.suffix in FIGURES:
        as_json(found.to_json()) if json_ else typer.echo(text(found, (*chosen, "plain")[0]), nl=False)
    if out and not json_:
        typer.echo(f"written: {out}", err=True)


def text(found: object, form: str) -> str:
    """The comparison in one of the forms."""
    import json

    from gen_core.run.studies import comparison_text as forms

    make = {"md": forms.markdown, "csv": forms.as_csv, "latex": forms.latex, "plain": forms.plain}
    if form == "json":
        return json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n"
    return make[form](found)
