"""A finished run as it is compared: its settings, its scores, what it cost, and how each score was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import tomli
from attrs import Factory, frozen

from gen_core.component import said
from gen_core.errors import RunError, UsageError
from gen_core.registry import did_you_mean
from gen_core.run.folder import LOCK_RECIPE, RunFolder, check_lock, read_json

COST = "cost"  # the metric that cost figures stand under


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


def read_run(folder: Path) -> Run:
    """What a finished run says of itself. Raises: UsageError when it has no scores."""
    metrics = read_json(folder / "metrics.json")
    if metrics is None:
        raise UsageError(f"{folder}: has no metrics.json; finish the run first")
    recipe = _locked_recipe(folder / LOCK_RECIPE)
    try:
        results = metrics["results"]
        scores = [Score(metric=name, **_known(v)) for name, result in results.items() for v in result["values"]]
        protocols = {name: {**result["protocol"], **_fitted(folder, recipe, name)} for name, result in results.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder / 'metrics.json'}: damaged ({said(error)}); `gen evaluate --run {folder}` writes it again"
        ) from None
    return Run(
        name=folder.name,
        folder=folder,
        settings=dict(flat(recipe)),
        scores={score.ref: score for score in (*scores, *cost_scores(folder))},
        protocols=protocols,
        machine=RunFolder(folder).cost().get("machine", {}),
    )


def _locked_recipe(path: Path) -> dict[str, Any]:
    """The recipe of a run, without its plugins, which need not be installed to compare. Raises: RunError."""
    check_lock(path)
    try:
        return tomli.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: damaged ({said(error)}); `gen run` of its recipe writes it again") from None


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


def flat(data: dict[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting in nested tables."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def pick(scores: Sequence[Score], text: str) -> Score:
    """The one score that `text` names: of several, the first of the samples. Raises: UsageError with what there is."""
    found = matching(scores, text)
    if not found:
        metric = text.removeprefix("metrics.").partition(":")[0]
        known = [s.ref for s in scores if s.metric == metric]  # of a metric we have, its figures; else all metrics
        known = known or list(dict.fromkeys(s.name if s.metric == COST else s.metric for s in scores))
        raise UsageError(f"no score '{text}'; there are {', '.join(known) or 'none'}{did_you_mean(text, known)}")
    return next((score for score in found if score.source == "synthetic"), found[0])


def matching(scores: Iterable[Score], text: str) -> list[Score]:
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
