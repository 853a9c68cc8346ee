"""One self-contained HTML page of a run: no script, no fetch, every picture inside.

Whatever a run lacks is left out of the page; a page over its size limit is drawn again with fewer pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core import __version__, atomic
from gen_core.report import Report, RunView
from gen_report import (
    figures_clusters,
    figures_copies,
    figures_curves,
    figures_features,
    figures_frechet,
    figures_images,
    figures_outcasts,
    figures_pareto,
    figures_planes,
    figures_segmentation,
    figures_spectra,
    figures_strips,
    figures_usefulness,
    scores,
    tables,
)
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
        dpi, drawn = float(self.options.dpi), lines(got)
        for _ in range(ATTEMPTS):
            page = render(got, {**drawn, **pictures(got, dpi)})
            if len(page.encode()) <= self.options.max_megabytes * 1e6:
                break
            dpi *= SMALLER
        atomic.write_text(path, page)
        return [path]

    def compare(self, comparison: Any, path: Path) -> list[Path]:
        """Draw the Pareto front of a comparison to a .png or .svg file; returns [path]."""
        return [figures_pareto.write(comparison, Path(path))]


def build(options: Html, context: None) -> HtmlReport:
    """The door of the registry."""
    return HtmlReport(options)


def some(*figures: Picture | None) -> list[Picture]:
    """The figures that there are."""
    return [p for p in figures if p is not None]


def lines(got: Gathered) -> dict[str, list[Picture]]:
    """The figures of lines, by section: the same for every size of the page."""
    return {
        "frechet": figures_frechet.over_n(got) + figures_frechet.per_plane(got),
        "spectra": some(figures_spectra.signatures(got)),
        "segmentation": some(figures_segmentation.precision(got)),
        "features": some(figures_features.components(got), figures_clusters.clusters(got)),
        "distances": some(figures_copies.distances(got)),
        "recovery": figures_usefulness.recovery(got),
        "utility": figures_usefulness.utility(got),
        "curves": figures_curves.curves(got),
    }


def pictures(got: Gathered, dpi: float) -> dict[str, list[Picture]]:
    """The figures of volumes, by section; sections without any are empty."""
    show = figures_images.transform(got)
    if show is None:
        return dict.fromkeys(("grids", "panel", "strips", "reconstructions", "neighbours", "worst", "rejected"), [])
    planes = (figures_planes.orthogonal if figures_planes.is_slices(got.spec) else figures_images.panel)(got, dpi)
    strips = (figures_strips.interpolation(got, show, dpi), figures_strips.denoising(got, show, dpi))
    return {
        "grids": some(*(figures_images.grid(got, kind, show, dpi) for kind in ("synthetic", "real"))),
        "panel": some(planes),
        "strips": some(*strips),
        "reconstructions": some(figures_images.reconstructions(got, show, dpi)),
        "neighbours": some(figures_copies.neighbours(got, show, dpi)),
        "worst": some(figures_outcasts.worst(got, show, dpi)),
        "rejected": some(figures_outcasts.rejected(got, show, dpi)),
    }


def render(got: Gathered, drawn: dict[str, list[Picture]]) -> str:
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
        tiles=scores.tiles(got),
        verdict=scores.verdict(got),
        columns=scores.columns(got),
        scores=scores.table(got),
        rejected=tables.rejected(got),
        segmentation=tables.segmentation(got),
        pictures=drawn,
        cost=tables.cost(got),
        data=tables.data(got),
        settings=tables.settings(got),
        show_real=got.options.show_real,
        synthetic=len(got.synthetic),
        lock=f"{got.run.folder}/recipe.lock.toml",
        seed=recipe.get("seed", 0),
        version=__version__,
    )
