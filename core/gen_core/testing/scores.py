"""Contract checks of metrics and reports."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core.batch import Batch
from gen_core.metric import SOURCES, Metric, Result, Value
from gen_core.report import Report
from gen_core.testing.say import require, require_json
from gen_core.volume import VolumeSpec

# what a page loads by itself; a link that a reader may click is no such thing
REMOTE = re.compile(
    r"""\bsrc\s*=\s*["']?(?:https?:)?//|<link[^>]*href\s*=\s*["']?(?:https?:)?//|@import|url\(\s*["']?https?:""",
    re.I,
)


def check_metric(make: Callable[[], Metric], batches: Iterable[tuple[str, Batch]], tolerance: float = 1e-4) -> None:
    """A metric, built afresh by `make`, on (source, batch) pairs: the order and the size of batches must not matter.

    tolerance: relative, for rounding. Raises: AssertionError with one sentence.
    """
    metric, pairs = make(), list(batches)
    name = type(metric).__name__
    unknown = set(metric.sources) - set(SOURCES)
    require(not unknown, f"{name}.sources names {sorted(unknown)}; there are {', '.join(SOURCES)}")
    given = {source for source, _ in pairs}
    require(set(metric.sources) <= given, f"check_metric needs batches of {', '.join(metric.sources)} for {name}")
    kept = [batch.x.clone() for _, batch in pairs]
    result = _score(metric, pairs)
    for (source, batch), x in zip(pairs, kept):
        require((batch.x == x).all(), f"{name}.update changes the batch of '{source}' it is given")
    _check_result(result, name)
    _same(metric.compute(), result, tolerance, f"{name}.compute gives another result the second time")
    singles = [(source, batch.part(i, i + 1)) for source, batch in pairs for i in range(len(batch))]
    _same(_score(make(), pairs[::-1]), result, tolerance, f"{name} depends on the order of batches")
    _same(_score(make(), singles), result, tolerance, f"{name} depends on the size of batches")
    if type(metric).merge is not Metric.merge:
        one, two = make(), make()
        for n, (source, batch) in enumerate(singles):
            if source in metric.sources:
                (one if n % 2 else two).update(batch, source)
        one.merge(two)
        _same(
            one.compute(),
            result,
            tolerance,
            f"{name}.merge gives another result than one metric that saw all",
        )


def _score(metric: Metric, pairs: list[tuple[str, Batch]]) -> Result:
    for source, batch in pairs:
        if source in metric.sources:
            metric.update(batch, source)
    return metric.compute()


def _check_result(result: Any, name: str) -> None:
    require(isinstance(result, Result), f"{name}.compute gives {type(result).__name__}, not Result")
    require(result.values, f"{name}.compute gives no value")
    require(result.protocol, f"{name}: the protocol is empty; nobody could reproduce the score")
    require_json(result.protocol, f"{name}: the protocol")
    require_json(result.extra, f"{name}: extra")
    names = [(v.name, v.source, v.against) for v in result.values]
    require(len(set(names)) == len(names), f"{name}: two values have the same name, source and reference")
    for value in result.values:
        at = f"{name}: value '{value.name}'"
        require(isinstance(value, Value), f"{name}: a value is no gen_core.metric.Value")
        require(value.source in ("", *SOURCES), f"{at}: unknown source '{value.source}'")
        require(value.against in ("", *SOURCES), f"{at}: unknown reference '{value.against}'")
        require(math.isfinite(value.value), f"{at} is {value.value}")
        require((value.low is None) == (value.high is None), f"{at}: an interval has two ends")
        if value.low is not None and value.high is not None:
            require(value.low <= value.high, f"{at}: interval {value.low}..{value.high}")
            require(value.interval, f"{at}: an interval says how it was made")
        require(value.better in ("", "lower", "higher", "match"), f"{at}: better = '{value.better}'")


def _same(got: Result, want: Result, tolerance: float, sentence: str) -> None:
    if want.timing:
        return  # the clock decides
    by_name = {(v.name, v.source, v.against): v for v in got.values}
    for value in want.values:
        other = by_name.get((value.name, value.source, value.against))
        require(other is not None, f"{sentence}: '{value.name}' is missing")
        for key in ("value", "low", "high", "floor"):
            a, b = getattr(other, key), getattr(value, key)
            close = a == b or (a is not None and b is not None and abs(a - b) <= tolerance * max(1.0, abs(b)))
            require(close, f"{sentence}: {value.name}.{key} {a} against {b}")


@define
class EmptyRun:
    """A run of which nothing is there yet: every report must cope with it."""

    name: str = "empty"
    folder: Path = Path(".")
    recipe: dict[str, Any] = Factory(dict)
    events: list[dict[str, Any]] = Factory(list)
    metrics: dict[str, Any] = Factory(dict)
    cost: dict[str, Any] = Factory(dict)
    prepared: dict[str, Any] = Factory(dict)
    steps: dict[str, dict[str, Any]] = Factory(dict)
    spec: VolumeSpec = Factory(lambda: VolumeSpec(size=(3, 8, 7), wavelength_nm=(500.0, 550.0, 600.0)))

    def real(self, split: str, n: int) -> list[Any]:
        return []

    def reconstructions(self, n: int) -> list[tuple[Any, Any]]:
        return []

    def synthetic(self, n: int) -> list[tuple[str, Any]]:
        return []

    def find(self, id: str, most: int = 0) -> None:
        return None

    def rejected(self) -> dict[str, list[str]]:
        return {}

    def features(self, n: int) -> None:
        return None

    def interpolation(self, frames: int, most_steps: int) -> list[tuple[float, Any]]:
        return []

    def denoising(self, frames: int, most_steps: int) -> list[tuple[float, Any, Any]]:
        return []


def check_report(report: Report, folder: Path, run: Any = None) -> None:
    """A report on `run` (any RunView) and on an empty run: one file that opens from disk without the network.

    Raises: AssertionError with one sentence.
    """
    name = type(report).__name__
    for number, view in enumerate([EmptyRun(folder=folder)] + ([run] if run is not None else [])):
        path = folder / f"report-{number}.html"
        try:
            files = report.write(view, path)
        except Exception as error:
            what = "an empty run" if number == 0 else "the run"
            raise AssertionError(f"{name}.write fails on {what}: {type(error).__name__}: {error}") from error
        require(path in files and path.is_file(), f"{name}.write did not write {path.name}, or does not name it")
        text = path.read_text(encoding="utf-8")
        require(text.strip(), f"{name}.write wrote an empty page")
        found = REMOTE.search(text)
        require(
            not found,
            f"{name}: the page loads from the network: ...{text[found.start() :][:60] if found else ''}",
        )
        require(view.name in text, f"{name}: the page does not name the run '{view.name}'")
