"""What the page says in words and numbers: headline, notes, cost, rejected samples, data, settings."""

from __future__ import annotations

from typing import Any

from gen_core.recipe import to_toml
from gen_report import figures_segmentation
from gen_report.figures_segmentation import KINDS, STAGES
from gen_report.gathered import Gathered, short_id
from gen_report.words import count, duration, number

ORDER = ("prepare", "fit.codec", "encode", "fit.prior", "", "sample", "reject", "evaluate", "report")
REASONS = 40  # rejected samples listed


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
        "notes": notes + few + component_notes(got),
    }


def component_notes(got: Gathered) -> list[str]:
    """What components said when they were fitted, such as a loss that is off, with the step that says it."""
    return [f"{step}: {note}" for step in in_order(got.run.steps) for note in got.run.steps[step].get("notes") or []]


def in_order(steps: Any) -> list[str]:
    """Step names in the order of a run."""
    rank = {name: k for k, name in enumerate(ORDER)}
    return sorted(steps, key=lambda name: (rank.get(name, rank[""]), name))


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
    longest = max((s.get("seconds", 0.0) for s in steps.values()), default=0.0) or 1.0
    rows = []
    for name in in_order(steps):
        step, record = steps[name], got.run.steps.get(name) or {}
        seconds = step.get("seconds", 0.0)
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
    facts = [("total", duration(total)), ("hours", f"{total / 3600:.2g}")] if steps else []
    machine = data.get("machine") or {}
    memory = [s.get("peak_device_memory_mb") or s.get("peak_memory_mb") or 0 for s in steps.values()]
    if any(memory):
        facts.append(("peak memory", f"{max(memory) / 1024:.2f} GiB"))
    parameters = {n: (got.run.steps.get(n) or {}).get("parameters") for n in in_order(steps)}
    weights = [f"{count(p)} ({n.removeprefix('fit.')})" for n, p in parameters.items() if p]
    if weights:
        facts.append(("parameters", ", ".join(weights)))
    sample = steps.get("sample") or {}
    if sample.get("volumes"):
        drawn = sample.get("sampling_seconds", 0.0) + sample.get("decode_seconds", 0.0)
        facts.append(("a sample", f"{number(drawn / sample['volumes'], 3)} s with decoding"))
    facts += [(k.replace("_", " "), str(v)) for k, v in machine.items()]
    return {"rows": rows, "facts": facts}


def rejected(got: Gathered) -> dict[str, Any] | None:
    """The samples that were set aside, each with its reasons; None where nobody judged."""
    by = ((got.run.recipe or {}).get("evaluate") or {}).get("reject", {}).get("by") or []
    if not by and not got.rejected:
        return None
    rows = [(short_id(i), "; ".join(reasons)) for i, reasons in list(got.rejected.items())[:REASONS]]
    more = len(got.rejected) - len(rows)
    return {"by": ", ".join(by), "n": len(got.rejected), "rows": rows, "more": more}


def segmentation(got: Gathered) -> list[tuple[str, list[str]]]:
    """(class, precision, recall and Dice, each before and after, as mean ± sd)."""
    found = []
    for name, stages in figures_segmentation.rows(got):
        cells = [_spread(stages[s].get(kind)) for kind in KINDS for s in STAGES]
        found.append((name, [*cells, str(stages["before"].get("n", ""))]))
    return found


def _spread(score: dict[str, Any] | None) -> str:
    """Mean ± sd."""
    if not score or score.get("mean") is None:
        return "–"
    return f"{score['mean']:.3f}" + (f" ± {score['sd']:.3f}" if score.get("sd") is not None else "")


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
