"""Finished runs side by side: their scores, what they cost, in which settings they differ, and the Pareto front.

Scores stand beside each other only where they were made the same way: same definition, same extractor with the same
weights, same number of volumes. Anything else is refused, naming both runs and what differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli
from attrs import Factory, frozen

from gen_core.errors import UsageError
from gen_core.recipe.layers import DEFAULT_USE
from gen_core.registry import Registry, did_you_mean
from gen_core.run.fingerprint import HARMLESS_FIT, canonical
from gen_core.run.folder import LOCK_RECIPE, RunFolder, read_json

SWEEP = "sweep.json"
COST = "cost"  # the metric that cost figures stand under
FOUND = ("pixels", "threshold", "typical_disc_area_pixels", "measured")
"""Keys of a protocol that a metric found rather than chose: they may differ. New metrics put theirs in "measured"."""
NO_SETTING = ("name", "demonstration", "device", "sweep", "gen")
ABSENT = "(none)"


@frozen
class Score:
    """One figure of one run. ref: "metric:name:source:against" without empty parts."""

    metric: str
    name: str
    value: float | None
    source: str = ""
    against: str = ""
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    n: int = 0
    better: str = ""
    flag: str = ""

    @property
    def ref(self) -> str:
        return ":".join(part for part in (self.metric, self.name, self.source, self.against) if part)

    @property
    def loss(self) -> float | None:
        """The value turned so that lower is better. None where there is none, or nothing to aim at."""
        if self.value is None or not self.better:
            return None
        if self.better == "match":
            return None if self.floor is None else abs(self.value - self.floor)
        return self.value if self.better == "lower" else -self.value


@frozen
class Run:
    """A finished run as it is compared."""

    name: str
    folder: Path
    settings: dict[str, Any]  # dotted key -> value, of the whole recipe
    scores: dict[str, Score]  # by ref
    protocols: dict[str, dict[str, Any]]  # by metric
    machine: dict[str, Any] = Factory(dict)


@frozen
class Comparison:
    """Runs, the settings in which they differ, and the refs that are shown."""

    runs: list[Run]
    differing: list[str]
    refs: list[str]
    notes: list[str] = Factory(list)
    pareto: tuple[str, str] | None = None
    front: frozenset[str] = frozenset()  # names of the runs on it

    def head(self, ref: str) -> Score:
        """Any run's score of that ref: for its metric, source, direction."""
        return next(run.scores[ref] for run in self.runs if ref in run.scores)

    def to_json(self) -> dict[str, Any]:
        rows = []
        for run in self.runs:
            row: dict[str, Any] = {"run": run.name, "folder": str(run.folder)}
            row["settings"] = {key: run.settings.get(key) for key in self.differing}
            row["scores"] = {ref: attrs.asdict(run.scores[ref]) for ref in self.refs if ref in run.scores}
            if self.pareto:
                row["front"] = run.name in self.front
            rows.append(row)
        return {"runs": rows, "differing": self.differing, "pareto": self.pareto, "notes": self.notes}


def compare(
    paths: Sequence[str | Path], metrics: Sequence[str] = (), pareto: tuple[str, str] | None = None
) -> Comparison:
    """Read runs and sweep folders and set their scores side by side.

    metrics: names of metrics or whole refs ("spectral-kl:kl vessel:synthetic"); none means all. pareto: two refs, or
    names of cost figures. Raises: UsageError where figures are not comparable, or a run has none.
    """
    folders, notes = run_folders(paths)
    if not folders:
        raise UsageError("nothing to compare: " + ("; ".join(notes) or "no runs given"))
    runs = [read_run(folder) for folder in folders]
    runs = [attrs.evolve(run, name=name) for run, name in zip(runs, _short_names(folders))]
    asked = [*metrics, *(pareto or ())]
    refs = _refs(runs, metrics)
    used = list(dict.fromkeys(ref.partition(":")[0] for ref in refs if not ref.startswith(f"{COST}:")))
    axes: tuple[str, str] | None = None
    if pareto:
        axes = (_one(runs, pareto[0]), _one(runs, pareto[1]))
        used += [ref.partition(":")[0] for ref in axes if not ref.startswith(f"{COST}:")]
        refs += [ref for ref in axes if ref not in refs]
    refuse_mixed(runs, list(dict.fromkeys(used)), bool(asked))
    machines = {canonical({k: run.machine.get(k) for k in ("cpu", "gpu", "threads", "device")}) for run in runs}
    if len(machines) > 1:
        notes.append("the runs were made on different machines or thread counts: times are no comparison")
    shown = [run.scores[ref] for ref in refs for run in runs if ref in run.scores]
    notes += list(dict.fromkeys(f"{s.metric}, {s.name} ({s.source}): {s.flag}" for s in shown if s.flag))
    found = Comparison(runs, differing(runs), refs, notes, axes)
    return attrs.evolve(found, front=front(runs, *axes)) if axes else found


def run_folders(paths: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """The finished runs among `paths`, sweeps opened, and a note for each that is not finished."""
    folders: list[Path] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if (path / LOCK_RECIPE).exists():
            inside = [path]
        elif (sweep := read_json(path / SWEEP)) is not None:
            inside = [path / child["name"] for child in sweep["children"]]
        else:
            inside = sorted(lock.parent for lock in path.glob(f"*/{LOCK_RECIPE}"))
        if not inside:
            raise UsageError(f"{path}: neither a run nor a folder of runs")
        for folder in inside:
            if (folder / "metrics.json").exists():
                folders.append(folder)
            else:
                notes.append(f"{folder}: left out, it is not finished")
    return folders, notes


def split_pair(text: str) -> tuple[str, str]:
    """ "x,y" -> (x, y); a comma inside a name is followed by a space. Raises: UsageError."""
    parts = text.split(",")
    if len(parts) < 2 or not all(parts):
        raise UsageError(f"--pareto {text}: expected two scores, for example samples-per-second,hyperspectral-fid")
    cuts = [i for i in range(1, len(parts)) if not parts[i].startswith(" ")]
    if len(cuts) != 1:
        raise UsageError(f"--pareto {text}: expected two scores with one comma, and no space, between them")
    return ",".join(parts[: cuts[0]]), ",".join(parts[cuts[0] :])


def draw(found: Comparison, path: Path, report: str = DEFAULT_USE["report"]) -> None:
    """Draw the Pareto front by the report component of that name, which owns the look of figures."""
    component = Registry.load().get("report", report)
    component.build(component.options_class()(), None).compare(found, Path(path))


def _short_names(folders: Sequence[Path]) -> list[str]:
    """Folder names, with the parent's where two are alike."""
    names = [folder.name for folder in folders]
    return [n if names.count(n) == 1 else f"{f.resolve().parent.name}/{n}" for n, f in zip(names, folders)]


def read_run(folder: Path) -> Run:
    """What a finished run says of itself. Raises: UsageError when it has no scores."""
    metrics, cost = read_json(folder / "metrics.json"), read_json(folder / "cost.json") or {}
    if metrics is None:
        raise UsageError(f"{folder}: has no metrics.json; finish the run first")
    results = metrics["results"]
    scores = [Score(metric=name, **_known(v)) for name, result in results.items() for v in result["values"]]
    recipe = tomli.loads((folder / LOCK_RECIPE).read_text())
    protocols = {name: {**result["protocol"], **_fitted(folder, recipe, name)} for name, result in results.items()}
    return Run(
        name=folder.name,
        folder=folder,
        settings=dict(_flat(recipe)),
        scores={score.ref: score for score in (*scores, *cost_scores(folder))},
        protocols=protocols,
        machine=cost.get("machine", {}),
    )


def _known(value: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in attrs.fields(Score)} - {"metric"}
    return {k: v for k, v in value.items() if k in names}


def _fitted(folder: Path, recipe: dict[str, Any], metric: str) -> dict[str, Any]:
    """Fingerprints of the fitted networks that a metric's settings name: a segmenter is an extractor too."""
    found = {}
    for value in recipe.get("metrics", {}).get(metric, {}).values():
        for name in value if isinstance(value, list) else [value]:
            done = read_json(folder / "steps" / f"fit.{name}" / "done.json") if isinstance(name, str) else None
            if done:
                found[f"fit.{name}"] = done["fingerprint"]
    return found


def cost_scores(folder: Path) -> Iterator[Score]:
    """Training time, samples a second, parameters, peak memory: of this run's steps, taken ones included."""
    run, steps = RunFolder(folder), {}
    for step in sorted((folder / "steps").glob("*/done.json")):
        where = run.step(step.parent.name)
        steps[step.parent.name] = (read_json(where / "cost.json") or {}, read_json(where / "done.json") or {})
    spent = [cost["seconds"] for name, (cost, _) in steps.items() if name.startswith("fit.") and "seconds" in cost]
    if spent:
        yield Score(COST, "training-seconds", round(sum(spent), 1), better="lower")
    sample = steps.get("sample", ({}, {}))[0]
    drawing = sample.get("sampling_seconds", 0.0) + sample.get("decode_seconds", 0.0)
    if drawing:
        yield Score(COST, "samples-per-second", sample["volumes"] / drawing, better="higher")
    for name in ("codec", "prior"):
        record = steps.get(f"fit.{name}", ({}, {}))[1]
        if record.get("parameters"):
            yield Score(COST, f"parameters-{name}", record["parameters"], better="lower")
    device = [cost["peak_device_memory_mb"] for cost, _ in steps.values() if "peak_device_memory_mb" in cost]
    host = [cost["peak_memory_mb"] for cost, _ in steps.values() if "peak_memory_mb" in cost]
    if device or host:
        yield Score(COST, "peak-memory-mb", max(device or host), better="lower")


def _flat(data: dict[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def differing(runs: Sequence[Run]) -> list[str]:
    """Settings that are not the same in all runs. Where another component is used, its name alone says so."""
    keys = [k for k in dict.fromkeys(k for run in runs for k in run.settings) if not _ignored(k)]
    get = lambda run, key: canonical(run.settings.get(key, ABSENT))
    found = [key for key in keys if len({get(run, key) for run in runs}) > 1]
    changed = [key.removesuffix("use") for key in found if key.endswith(".use")]
    somewhere = lambda key: any(key not in run.settings for run in runs)
    return [k for k in found if not (somewhere(k) and any(k.startswith(c) and k != f"{c}use" for c in changed))]


def _ignored(key: str) -> bool:
    return key.partition(".")[0] in NO_SETTING or key.rpartition(".")[2] in HARMLESS_FIT


def _matching(scores: Iterable[Score], text: str) -> list[Score]:
    """Scores whose (name, source, against) hold the parts of "metric:part:part" in that order."""
    metric, *parts = text.removeprefix("metrics.").split(":")
    found = []
    for score in scores:
        if score.metric == COST and score.name == metric and not parts:
            return [score]
        rest = iter((score.name, score.source, score.against))
        if score.metric == metric and all(part in rest for part in parts):
            found.append(score)
    return found


def pick(scores: Sequence[Score], text: str) -> Score:
    """The one score that `text` names: of several, the first of the samples. Raises: UsageError with what there is."""
    found = _matching(scores, text)
    if not found:
        metric = text.removeprefix("metrics.").partition(":")[0]
        known = [s.ref for s in scores if s.metric == metric]  # of a metric we have, its figures; else all metrics
        known = known or list(dict.fromkeys(s.name if s.metric == COST else s.metric for s in scores))
        raise UsageError(f"no score '{text}'; there are {', '.join(known) or 'none'}{did_you_mean(text, known)}")
    return next((score for score in found if score.source == "synthetic"), found[0])


def _one(runs: Sequence[Run], text: str) -> str:
    scores = {ref: score for run in runs for ref, score in run.scores.items()}
    score = pick(list(scores.values()), text)
    if not score.better:
        raise UsageError(f"'{score.ref}' has no better and worse")
    return score.ref


def _refs(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """Refs to show: those asked for, or every figure of samples and reconstructions that has a better and a worse."""
    scores = list({ref: score for run in runs for ref, score in run.scores.items()}.values())
    cost = [score.ref for score in scores if score.metric == COST]
    if not metrics:
        shown = [s.ref for s in scores if s.better and s.source in ("synthetic", "reconstruction") and s.metric != COST]
        return [*shown, *cost]
    chosen: list[str] = []
    for text in metrics:
        found = _matching(scores, text)
        if ":" not in text and any(s.source in ("synthetic", "reconstruction") for s in found):
            found = [s for s in found if s.source in ("synthetic", "reconstruction")]
        if not found:
            pick(scores, text)  # which says what there is
        chosen += [score.ref for score in found]
    return list(dict.fromkeys([*chosen, *cost]))


def refuse_mixed(runs: Sequence[Run], metrics: Sequence[str], chosen: bool = False) -> None:
    """Raises: UsageError naming, for each metric that is not comparable, two runs and what differs."""
    lines, fine = [], []
    for metric in metrics:
        have = [run for run in runs if metric in run.protocols]
        line = next(filter(None, (difference(metric, have[0], run) for run in have[1:])), "")
        lines.append(f"{metric}: {line}") if line else fine.append(metric)
    if lines:
        hint = f"\nCompare what can be: {' '.join(f'--metric {name}' for name in fine)}" if fine and not chosen else ""
        raise UsageError("not comparable:\n  " + "\n  ".join(lines) + hint)


def difference(metric: str, one: Run, other: Run) -> str:
    """In what the scores of a metric were made differently, or "" where they can stand side by side."""
    ours, theirs = (dict(_flat({k: v for k, v in r.protocols[metric].items() if k not in FOUND})) for r in (one, other))
    for key in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        if canonical(a) != canonical(b):
            return f"{key} is {_brief(a)} in {one.name}, {_brief(b)} in {other.name}"
    for ref, score in one.scores.items():
        twin = other.scores.get(ref)
        if score.metric == metric and twin is not None and twin.n != score.n:
            return f"{ref} is of N = {score.n} in {one.name}, of N = {twin.n} in {other.name}"
    return ""


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"


def front(runs: Sequence[Run], x: str, y: str) -> frozenset[str]:
    """Names of the runs that no other run beats: none is at least as good in both figures and better in one."""
    points = {}
    for run in runs:
        losses = [run.scores[ref].loss if ref in run.scores else None for ref in (x, y)]
        if all(loss is not None and math.isfinite(loss) for loss in losses):
            points[run.name] = losses
    beaten = lambda p: any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())
    return frozenset(name for name, point in points.items() if not beaten(point))
