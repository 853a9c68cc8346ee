"""Frechet distances drawn out: over 1/N with the line to endlessly many volumes, and plane by plane."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_report.gathered import Gathered, feature_size
from gen_report.house_style import OTHER, SOURCE_COLOUR, SOURCE_MARK, SOURCE_NAME, Picture, as_svg, drawing

COUNTED = {"over_n": "volumes", "over_triplets": "triplets a volume"}


def over_n(got: Gathered) -> list[Picture]:
    """One figure a metric and abscissa: volumes, and triplets where a metric counts them."""
    found = [_over(metric, r, key) for metric, r in got.results.items() for key in COUNTED]
    return [p for p in found if p is not None]


def _over(metric: str, result: dict[str, Any], key: str) -> Picture | None:
    lines = {
        s: c
        for s, c in ((result.get("extra") or {}).get(key) or {}).items()
        if isinstance(c, dict) and len(c.get("n") or []) > 1 and len(c["n"]) == len(c.get("value") or [])
    }
    if not lines:
        return None
    said = []
    with drawing(5.4, 2.9) as figure:
        ax = figure.subplots()
        for source, curve in lines.items():
            n, y = np.asarray(curve["n"], float), np.asarray(curve["value"], float)
            x, colour = 1 / n, SOURCE_COLOUR.get(source, OTHER[0])
            name = SOURCE_NAME.get(source, source)
            spread = curve.get("spread")
            ax.errorbar(
                x,
                y,
                yerr=spread if spread and len(spread) == len(y) else None,
                fmt=SOURCE_MARK.get(source, "o"),
                color=colour,
                markersize=4.5,
                elinewidth=0.8,
                capsize=2,
                label=name,
            )
            limit, slope = curve.get("limit"), curve.get("slope")
            if limit is None or slope is None:
                continue
            ends = np.array([0, x.max()])
            ax.plot(ends, limit + slope * ends, color=colour, linewidth=1)
            interval = ""
            if curve.get("low") is not None and curve.get("high") is not None:
                whiskers = [[max(0.0, limit - curve["low"])], [max(0.0, curve["high"] - limit)]]
                ax.errorbar([0], [limit], yerr=whiskers, color=colour, capsize=4, linewidth=1.4, clip_on=False)
                interval = f" ({curve['low']:.3g} … {curve['high']:.3g})"
            said.append(f"{name} {limit:.3g}{interval} from N = {', '.join(f'{v:.0f}' for v in sorted(n))}")
        ax.set_xlabel(f"1 / N, N in {COUNTED[key]}")
        ax.set_ylabel(metric)
        ax.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=3)
        uri = as_svg(figure)
    size = feature_size(result)
    return Picture(
        f"{metric} over 1/N" + (", N in triplets" if key == "over_triplets" else ""),
        f"A finite N makes the distance larger; where the line meets 0 is the estimate for endlessly many "
        f"{COUNTED[key].split()[0]}: {'; '.join(said)}.{f' {size}.' if size else ''}",
        f"{metric} against one over the number of {COUNTED[key]}, with straight lines to zero.",
        uri,
        560,
    )


def per_plane(got: Gathered) -> list[Picture]:
    """A distance a plane: bands as a curve over the wavelength, directions as groups of bars."""
    return [p for metric, r in got.results.items() if (p := _planes(metric, r)) is not None]


def _planes(metric: str, result: dict[str, Any]) -> Picture | None:
    planes = (result.get("extra") or {}).get("planes")
    found = {s: p for s, p in planes.items() if isinstance(p, dict) and p} if isinstance(planes, dict) else {}
    if not found:
        return None
    names = list(next(iter(found.values())))
    found = {s: p for s, p in found.items() if list(p) == names}
    bands = all(n.endswith(" nm") for n in names)
    with drawing(5.6, 2.9) as figure:
        ax = figure.subplots()
        for k, (source, values) in enumerate(found.items()):
            how = {"color": SOURCE_COLOUR.get(source, OTHER[0]), "label": SOURCE_NAME.get(source, source)}
            y = [values[n] for n in names]
            if bands:
                x = [float(n.removesuffix(" nm")) for n in names]
                ax.plot(x, y, marker=SOURCE_MARK.get(source, "o"), markersize=4, **how)
            else:
                width = 0.8 / len(found)
                ax.bar(np.arange(len(names)) + (k - (len(found) - 1) / 2) * width, y, width * 0.92, **how)
        if bands:
            ax.set_xlabel("nm")
        else:
            ax.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
            ax.grid(axis="x", visible=False)
        ax.set_ylim(bottom=0)
        ax.set_ylabel(metric)
        figure.legend(loc="outside lower center", ncols=3)
        uri = as_svg(figure)
    counts = (result.get("protocol") or {}).get("n") or {}
    said = ", ".join(f"{SOURCE_NAME.get(s, s)} N = {counts[s]}" for s in (*found, "val") if s in counts)
    size = feature_size(result)
    return Picture(
        f"{metric} plane by plane",
        f"Distance to the validation volumes of each {'band' if bands else 'plane'}. {said or 'N: see the scores'}."
        f"{f' {size}.' if size else ''}",
        f"{metric} of {len(names)} planes for {', '.join(SOURCE_NAME.get(s, s) for s in found)}.",
        uri,
        580,
    )
