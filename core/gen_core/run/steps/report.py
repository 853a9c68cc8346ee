"""The step `report`: all that is known of the run, on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec
from gen_core.run.view.finished import FinishedRun


def report(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Write report.html."""
    table = ctx.recipe.tables_of("report")[0]
    page = table.component.build(table.options, None)
    files = page.write(FinishedRun(ctx), ctx.folder.path / "report.html")
    pages = [str(f.relative_to(ctx.folder.path)) for f in files]
    return {"pages": pages, "published": pages}
