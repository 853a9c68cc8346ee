"""Finished runs side by side: their scores, what they cost, in which settings they differ, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, frozen

from gen_core.errors import UsageError
from gen_core.recipe.layers import DEFAULT_USE
from gen_core.registry import Registry
from gen_core.run.fingerprint import canonical
from gen_core.run.folder import LOCK_RECIPE, read_json
from gen_core.run.studies.comparable import differing, refuse_mixed
from gen_core.run.studies.scores import COST, Run, Score, matching, pick, read_run

SWEEP = "sweep.json"


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


def _short_names(folders: Sequence[Path]) -> list[str]:
    """Folder names, with the parent's where two are alike."""
    names = [folder.name for folder in folders]
    return [n if names.count(n) == 1 else f"{f.resolve().parent.name}/{n}" for n, f in zip(names, folders)]


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
        found = matching(scores, text)
        if ":" not in text and any(s.source in ("synthetic", "reconstruction") for s in found):
            found = [s for s in found if s.source in ("synthetic", "reconstruction")]
        if not found:
            pick(scores, text)  # which says what there is
        chosen += [score.ref for score in found]
    return list(dict.fromkeys([*chosen, *cost]))


def front(runs: Sequence[Run], x: str, y: str) -> frozenset[str]:
    """Names of the runs that no other run beats: none is at least as good in both figures and better in one."""
    points = {}
    for run in runs:
        losses = [run.scores[ref].loss if ref in run.scores else None for ref in (x, y)]
        if all(loss is not None and math.isfinite(loss) for loss in losses):
            points[run.name] = losses
    beaten = lambda p: any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())
    return frozenset(name for name, point in points.items() if not beaten(point))


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
