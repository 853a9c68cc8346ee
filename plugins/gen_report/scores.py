"""The scores in words: key figures, the verdict on copies, one table with a column a source, protocols."""

from __future__ import annotations

import math
from typing import Any

from attrs import define, field

from gen_report.gathered import Gathered, feature_size
from gen_report.house_style import SOURCE_NAME
from gen_report.words import flat, number

TILES = 5
# what a reader looks for first; other metrics follow in the order of the recipe
FIRST = ("hyperspectral-fid", "fid", "ms-ssim", "spectral-kl", "utility", "psnr", "kid", "prdc", "anatomy")
AIM = {"lower": "↓ lower", "higher": "↑ higher", "match": "≈ floor", "": ""}
COLUMNS = ("synthetic", "reconstruction", "val", "train", "reconstruction-train", "")  # of what, "": of no source
CLEAR = 0.05  # p under which more samples than chance are taken for copies


@define
class Row:
    """One score across sources. cells: source -> (value, interval, how the interval was made)."""

    name: str
    against: str = ""
    cells: dict[str, tuple[str, str, str]] = field(factory=dict)
    floor: str = ""
    n: dict[str, int] = field(factory=dict)
    features: str = ""
    aim: str = ""
    flags: list[str] = field(factory=list)

    @property
    def counts(self) -> str:
        """One number where all sources have as many volumes, else one a source, in the order of the columns."""
        counts = [self.n[source] for source in COLUMNS if source in self.n]
        return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))


def columns(got: Gathered) -> list[tuple[str, str]]:
    """(source, head) of the sources that any score has, a nameless one for figures of no source."""
    there = {v.get("source") or "" for r in got.results.values() for v in r.get("values") or []}
    return [(s, SOURCE_NAME.get(s, s) or "figure") for s in COLUMNS if s in there]


def table(got: Gathered) -> list[dict[str, Any]]:
    """One block a metric: its rows and its protocol as (key, text)."""
    blocks = []
    for metric, result in got.results.items():
        size = feature_size(result)
        protocol = [(k.replace("_", " "), flat(p)) for k, p in (result.get("protocol") or {}).items()]
        rows = _rows(metric, result.get("values") or [], size)
        blocks.append({"metric": metric, "rows": rows, "protocol": protocol, "features": size})
    return blocks


def _rows(metric: str, values: list[dict[str, Any]], size: str) -> list[Row]:
    rows: list[Row] = []
    for v in values:
        name, source = v.get("name") or metric, v.get("source") or ""
        against = v.get("against") or ""
        # the usual reference goes without saying
        aside = SOURCE_NAME.get(against, against) if against.startswith("reconstruction") else ""
        row = next((r for r in rows if r.name == name and r.against == aside and source not in r.cells), None)
        if row is None:
            row = Row(name, aside, features=size)
            rows.append(row)
        low, high = v.get("low"), v.get("high")
        interval = "" if low is None or high is None else f"{number(low, 3)} … {number(high, 3)}"
        row.cells[source] = (number(v.get("value")), interval, v.get("interval") or "")
        row.n |= {source: v["n"]} if v.get("n") else {}
        row.aim = AIM.get(v.get("better") or "", v.get("better") or "")
        if v.get("floor") is not None and (source == "synthetic" or not row.floor):
            row.floor = number(v["floor"])
        if v.get("flag") and v["flag"] not in row.flags:
            row.flags.append(v["flag"])
    return rows


def tiles(got: Gathered) -> list[dict[str, str]]:
    """The few scores a reader looks for first: a metric's first value of the samples, else of reconstructions."""
    tables = (got.run.recipe or {}).get("metrics") or {}
    use = lambda name: (tables.get(name) or {}).get("use", name)
    rank = {name: FIRST.index(use(name)) if use(name) in FIRST else len(FIRST) for name in got.results}
    found = []
    for metric in sorted((m for m in got.results if use(m) != "memorization"), key=rank.__getitem__):
        first = {v.get("source"): v for v in reversed(got.results[metric].get("values") or [])}
        v = next((first[s] for s in ("synthetic", "reconstruction", "val") if s in first), None)
        if v is None or not isinstance(v.get("value"), (int, float)) or not math.isfinite(v["value"]):
            continue
        name, low, high = v.get("name", metric), v.get("low"), v.get("high")
        found.append(
            {
                "name": name if metric in name or use(metric) == "anatomy" else f"{metric}: {name}",
                "value": number(v["value"], 3),
                "interval": "" if low is None or high is None else f"{number(low, 3)} … {number(high, 3)}",
                "of": SOURCE_NAME.get(v["source"], v["source"]),
                "floor": "" if v.get("floor") is None else f"floor {number(v['floor'], 3)}",
                "n": f"N = {v['n']}" if v.get("n") else "",
                "features": feature_size(got.results[metric]),
                "flag": v.get("flag", ""),
            }
        )
    return found[:TILES]


def verdict(got: Gathered) -> dict[str, str] | None:
    """What the search for copies says, in a sentence, and how much it is worth; None where nobody searched."""
    result = next((r for r in got.results.values() if (r.get("extra") or {}).get("distances")), None)
    if result is None:
        return None
    by_name = {v.get("name"): v for v in reversed(result.get("values") or [])}
    share = by_name.get("copies, share")
    if share is None or not isinstance(share.get("value"), (int, float)):
        why = (result.get("protocol") or {}).get("note") or "no samples were searched"
        return {"state": "open", "head": "No verdict on copies", "text": f"{why}."}
    copies, n = round(share["value"] * share["n"]), share["n"]
    chance = share.get("floor")
    said = f"{copies} of N = {n} samples ({100 * share['value']:.1f} %) come nearer to a training volume than the "
    said += "threshold"
    said += f"; {100 * chance:g} % of real validation volumes do so by chance" if chance is not None else ""
    p = [v["value"] for name, v in by_name.items() if name and name.startswith("copies, ") and " p" in name]
    p = [value for value in p if isinstance(value, (int, float))]
    said += f" (p = {max(p):.2g})." if p else "."
    alone = by_name.get("copies that stand out, share")
    if alone is not None:  # near to one training volume, and to no other
        said += f" {round(alone['value'] * n)} of them stand out, that is, are near to one and to no other."
    if share.get("flag"):
        why = share["flag"].removeprefix("no verdict: ")
        return {"state": "open", "head": "No verdict on copies", "text": f"{said} {why[:1].upper()}{why[1:]}."}
    known = ((result.get("extra") or {}).get("verdict") or {}).get("copies")
    if known if known is not None else bool(p) and max(p) < CLEAR:
        return {"state": "bad", "head": "More copies than chance", "text": said}
    return {"state": "good", "head": "No sign of copied training volumes", "text": said}
