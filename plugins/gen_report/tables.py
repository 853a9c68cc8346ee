"""What the page says in words and numbers: headline, scores, cost, data, settings."""

from __future__ import annotations

import math
from typing import Any

from gen_core.recipe import to_toml
from gen_report.gathered import Gathered, step_record
from gen_report.house_style import SOURCE_NAME

TILES = 8
AIM = {"lower": "lower is better", "higher": "higher is better", "match": "match the floor", "": ""}


def number(value: Any, digits: int = 4) -> str:
    """A figure as a reader wants it; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(n: int) -> str:
    """562700000 -> "562.7 M"."""
    return next((f"{n / size:.1f} {unit}" for size, unit in ((10**9, "G"), (10**6, "M")) if n >= size), f"{n:,}")


def scores(got: Gathered) -> list[dict[str, Any]]:
    """One block a metric: its rows, and its protocol as (key, text)."""
    blocks = []
    for metric, result in got.results.items():
        rows = []
        for v in result.get("values") or []:
            low, high = v.get("low"), v.get("high")
            rows.append(
                {
                    "name": v.get("name", metric),
                    "source": SOURCE_NAME.get(v.get("source", ""), v.get("source", "")),
                    "against": SOURCE_NAME.get(v.get("against", ""), v.get("against", "")),
                    "value": number(v.get("value")),
                    "interval": "" if low is None or high is None else f"{number(low, 3)} … {number(high, 3)}",
                    "how": v.get("interval", ""),
                    "floor": "" if v.get("floor") is None else number(v["floor"]),
                    "n": v.get("n") or "",
                    "aim": AIM.get(v.get("better", ""), v.get("better", "")),
                    "flag": v.get("flag", ""),
                    "kind": v.get("source", ""),
                }
            )
        protocol = [(k.replace("_", " "), flat(p)) for k, p in (result.get("protocol") or {}).items()]
        blocks.append({"metric": metric, "rows": rows, "protocol": protocol})
    return blocks


def flat(value: Any) -> str:
    """Nested data as one readable line."""
    if isinstance(value, dict):
        return ", ".join(f"{k}: {flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(flat(v) for v in value)
    return number(value, 6) if isinstance(value, float) else str(value)


def tiles(got: Gathered) -> list[dict[str, str]]:
    """The few scores a reader looks for first: each metric's first value of the samples, else of reconstructions."""
    found = []
    for metric, result in got.results.items():
        first = {v.get("source"): v for v in reversed(result.get("values") or [])}
        v = first.get("synthetic") or first.get("reconstruction")
        if v is None or not isinstance(v.get("value"), (int, float)):
            continue
        name = v.get("name", metric)
        found.append(
            {
                "name": name if metric in name or metric == "anatomy" else f"{metric}: {name}",
                "value": number(v["value"], 3),
                "of": SOURCE_NAME.get(v["source"], v["source"]),
                "floor": "" if v.get("floor") is None else f"floor {number(v['floor'], 3)}",
                "n": f"N = {v['n']}" if v.get("n") else "",
                "flag": v.get("flag", ""),
            }
        )
    return found[:TILES]


def headline(got: Gathered) -> dict[str, Any]:
    """Name, what it makes, what kind of volumes, and why it is a demonstration, if it is."""
    recipe, spec = got.run.recipe or {}, got.spec
    c, d, h, w = spec.shape
    depth = {"bands": "bands", "slices": "slices"}.get(spec.depth, "planes")
    what = f"{d} {depth} of {h} × {w}" if d > 1 else f"images of {h} × {w}"
    nm = spec.wavelength_nm
    what += f", {nm[0]:.0f}–{nm[-1]:.0f} nm" if nm else ""
    what += f", {c} channels" if c > 1 else ""
    notes = [str(n) for n in (got.run.prepared or {}).get("notes") or []]
    counts = (got.run.prepared or {}).get("volumes") or {}
    few = [f"only {n} {name} volumes" for name, n in counts.items() if name in ("train", "val") and n < 30]
    use = lambda table: (recipe.get(table) or {}).get("use", "")
    system = [f"{t} {use(t)}" for t in ("codec", "prior", "sampler") if use(t)]
    return {
        "name": got.run.name,
        "what": what,
        "doc": _paragraphs(getattr(got.run, "doc", "") or ""),
        "system": " · ".join([f"data {use('dataset')}" if use("dataset") else "", *system]).strip(" ·"),
        "demonstration": recipe.get("demonstration") or "",
        "notes": notes + few,
    }


def _paragraphs(doc: str) -> str:
    """The first paragraph of a recipe's comment, without its comment signs."""
    words = []
    for line in doc.splitlines():
        text = line.removeprefix("#").strip()
        if not text and words:
            break
        words.append(text)
    return " ".join(w for w in words if w)


def cost(got: Gathered) -> dict[str, Any]:
    """Time a step with its share, machine, memory, parameters, seconds a sample."""
    data = got.run.cost or {}
    steps = data.get("steps") or {}
    total = data.get("total_seconds") or sum(s.get("seconds", 0.0) for s in steps.values())
    order = {
        "prepare": 0,
        "fit.codec": 1,
        "encode": 2,
        "fit.prior": 3,
        "sample": 5,
        "evaluate": 6,
        "report": 7,
    }
    longest = max((s.get("seconds", 0.0) for s in steps.values()), default=0.0) or 1.0
    rows = []
    for name, step in sorted(steps.items(), key=lambda item: (order.get(item[0], 4), item[0])):
        seconds = step.get("seconds", 0.0)
        record = step_record(got.run.folder, name) if got.run.folder else {}
        memory = step.get("peak_device_memory_mb") or step.get("peak_memory_mb")
        rows.append(
            {
                "step": name,
                "time": duration(seconds),
                "share": round(100 * seconds / longest, 1),
                "memory": f"{memory / 1024:.2f} GiB" if memory else "–",
                "parameters": count(record["parameters"]) if record.get("parameters") else "",
                "updates": f"{record['steps']:,}" if isinstance(record.get("steps"), int) else "",
                "attempts": step.get("attempts", 1),
            }
        )
    facts = [("total", duration(total))] if steps else []
    sample = steps.get("sample") or {}
    if sample.get("volumes"):
        drawn = sample.get("sampling_seconds", 0.0) + sample.get("decode_seconds", 0.0)
        facts.append(("a sample", f"{number(drawn / sample['volumes'], 3)} s with decoding"))
    facts += [(k.replace("_", " "), str(v)) for k, v in (data.get("machine") or {}).items()]
    return {"rows": rows, "facts": facts}


def data(got: Gathered) -> dict[str, Any]:
    """Splits with volumes and subjects, spec, notes."""
    prepared = got.run.prepared or {}
    rows = []
    for name, split in (prepared.get("splits") or {}).items():
        subjects = split.get("subjects") or []
        n = len(subjects) if isinstance(subjects, (list, tuple, dict)) else subjects
        rows.append({"split": name, "volumes": split.get("volumes", ""), "subjects": n})
    if not rows:
        rows = [{"split": k, "volumes": v, "subjects": ""} for k, v in (prepared.get("volumes") or {}).items()]
    spec = got.spec
    facts = [("shape (C, D, H, W)", " × ".join(map(str, spec.shape))), ("units", spec.units or "not known")]
    if spec.wavelength_nm:
        facts.append(("wavelengths, nm", ", ".join(f"{w:g}" for w in spec.wavelength_nm)))
    if spec.spacing_mm:
        facts.append(("spacing (D, H, W), mm", ", ".join(f"{s:g}" for s in spec.spacing_mm)))
    if spec.masks:
        facts.append(("masks", ", ".join(spec.masks)))
    lo, hi = spec.scale.lo.ravel(), spec.scale.hi.ravel()
    ends = f"lo {number(float(lo.min()))} … {number(float(lo.max()))}, hi {number(float(hi.min()))} … "
    facts.append(("scale to [-1, 1], plane by plane", ends + number(float(hi.max()))))
    return {"rows": rows, "facts": facts, "notes": [str(n) for n in prepared.get("notes") or []]}


def settings(got: Gathered) -> str:
    """The resolved recipe as TOML, every default written out."""
    return to_toml(got.run.recipe) if got.run.recipe else ""
