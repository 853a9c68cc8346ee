"""Spectral signatures: mean and standard deviation of each structure's spectra, source beside source."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_report.gathered import Gathered
from gen_report.house_style import SOURCE_COLOUR, SOURCE_DASH, SOURCE_NAME, Picture, as_svg, drawing

SHOWN = ("val", "reconstruction", "synthetic")
SHADE = {"val": 0.16, "reconstruction": 0.0, "synthetic": 0.16}


def signatures(got: Gathered) -> Picture | None:
    """From the `signatures` that a metric leaves in its extra; None without them."""
    found = got.extra("signatures")
    structures = (found or {}).get("structures") or {}
    structures = {s: {k: v for k, v in sources.items() if k in SHOWN} for s, sources in structures.items()}
    structures = {s: sources for s, sources in structures.items() if sources}
    if not structures:
        return None
    units = got.spec.units or "data units"
    nm = found.get("wavelength_nm")
    columns = min(3, len(structures))
    rows = -(-len(structures) // columns)
    width = max(5.0, 3.5 * columns)  # the legend needs room
    with drawing(width, 2.7 * rows + 0.35) as figure:
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax in axes.ravel()[len(structures) :]:
            ax.set_visible(False)
        for k, (ax, (name, sources)) in enumerate(zip(axes.ravel(), structures.items())):
            _structure(ax, got, name, sources, nm)
            if k % columns == 0:
                ax.set_ylabel(units)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        uri = as_svg(figure)
    counts = "; ".join(
        f"{name}: " + ", ".join(f"{SOURCE_NAME[s]} {v.get('pixels', '?')}" for s, v in sources.items())
        for name, sources in structures.items()
    )
    return Picture(
        "Spectral signatures",
        "Mean of the pixels of each structure; shaded: ± one standard deviation (real and synthetic). "
        f"Pixels: {counts}.",
        f"Spectra of {', '.join(structures)}: real, reconstruction and synthetic curves.",
        uri,
        int(width * 103),
    )


def _structure(ax: Any, got: Gathered, name: str, sources: dict[str, Any], nm: list[float] | None) -> None:
    lowest = np.inf
    for source in SHOWN:
        if source not in sources:
            continue
        mean, sd = physical(got.spec, sources[source]["mean"], sources[source].get("sd"))
        x = np.asarray(nm) if nm and len(nm) == len(mean) else np.arange(1, len(mean) + 1)
        colour = SOURCE_COLOUR[source]
        ax.plot(x, mean, SOURCE_DASH[source], color=colour, label=SOURCE_NAME[source])
        if SHADE[source]:
            ax.fill_between(x, mean - sd, mean + sd, color=colour, alpha=SHADE[source], linewidth=0)
        lowest = min(lowest, float(mean.min()))
        highest = float(mean.max())
    if lowest > 0 and highest / lowest > 8:  # a retina reflects 20 times more at 900 than at 550 nm
        ax.set_yscale("log")
        ax.set_ylim(bottom=lowest / 3)
    ax.set_title(name)
    ax.set_xlabel("nm" if nm else "plane")


def physical(spec: Any, mean: list[float], sd: list[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd over C * D planes from [-1, 1] to physical units."""
    m = np.asarray(mean, float)
    s = np.asarray(sd if sd is not None else np.zeros_like(m), float)
    shape = (len(spec.channels), spec.size[0], 1, 1)
    lo, hi = (np.broadcast_to(a, shape).ravel() for a in (spec.scale.lo, spec.scale.hi))
    if len(lo) != len(m):  # another layout than planes: shown as it is
        return m, s
    return lo + (m + 1) / 2 * (hi - lo), s / 2 * (hi - lo)
