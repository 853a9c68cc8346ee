"""One self-contained HTML page of a run: no script, no fetch, every picture inside.

Whatever a run lacks is left out of the page; a page over its size limit is drawn again with fewer pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core import __version__, atomic
from gen_core.report import Report, RunView
from gen_report import figures_curves, figures_images, figures_scores, figures_spectra, tables
from gen_report.gathered import Gathered, gather
from gen_report.house_style import Picture
from gen_report.report_options import Html

SMALLER = 0.7  # factor on the pixels of a page that is too large
ATTEMPTS = 5


class HtmlReport(Report):
    """Writes report.html."""

    def __init__(self, options: Html):
        self.options = options

    def write(self, run: RunView, path: Path) -> list[Path]:
        """Write the page atomically; returns [path]."""
        path = Path(path)
        got = gather(run, self.options)
        dpi = float(self.options.dpi)
        for _ in range(ATTEMPTS):
            page = render(got, dpi)
            if len(page.encode()) <= self.options.max_megabytes * 1e6:
                break
            dpi *= SMALLER
        atomic.write_text(path, page)
        return [path]


def build(options: Html, context: None) -> HtmlReport:
    """The door of the registry."""
    return HtmlReport(options)


def pictures(got: Gathered, dpi: float) -> dict[str, list[Picture]]:
    """All figures by section; sections without any are empty."""
    some = lambda *items: [p for p in items if p is not None]
    show = figures_images.transform(got)
    found = {
        "panel": some(figures_images.panel(got, dpi)),
        "grids": some(*(figures_images.grid(got, k, show, dpi) for k in ("synthetic", "real")))
        if show
        else [],
        "reconstructions": some(figures_images.reconstructions(got, show, dpi)) if show else [],
        "spectra": some(figures_spectra.signatures(got)),
        "copies": some(
            figures_scores.neighbours(got, show, dpi) if show else None, figures_scores.distances(got)
        ),
        "over_n": figures_scores.over_n(got),
        "curves": figures_curves.curves(got),
    }
    return found


def render(got: Gathered, dpi: float) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gen_report", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    recipe: dict[str, Any] = got.run.recipe or {}
    return environment.get_template("report.html.j2").render(
        head=tables.headline(got),
        tiles=tables.tiles(got),
        scores=tables.scores(got),
        pictures=pictures(got, dpi),
        cost=tables.cost(got),
        data=tables.data(got),
        settings=tables.settings(got),
        show_real=got.options.show_real,
        synthetic=len(got.synthetic),
        lock=f"{got.run.folder}/recipe.lock.toml",
        seed=recipe.get("seed", 0),
        version=__version__,
    )
