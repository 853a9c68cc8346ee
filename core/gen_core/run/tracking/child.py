"""The process of one tracker: follows events.jsonl until the run says how it ended, or is gone.

It is told what to do by a JSON document in a file that it inherits, and how the run ended by a line on stdin. When it
ends it answers with one word: what went wrong, or nothing. What the tracker prints lies in `log.txt` of its folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gen_core.component import Component, said, shortened
from gen_core.errors import GenError
from gen_core.recipe.structure import read_options
from gen_core.run.folder import DONE, read_json, read_sealed
from gen_core.run.tracking.following import Following
from gen_core.tracker import Score, TrackedRun, Tracker

PATIENCE = 30.0  # seconds that the process of a killed run gets to end
LAST = 180  # seconds after which a process whose run is gone ends in any case
KINDNESS = 10  # niceness: training comes first


def main(told: int) -> None:
    """told: the number of the inherited file."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # those are for the run, which tells us
    parent, answers = os.getppid(), os.dup(1)
    os.dup2(2, 1)
    try:
        os.nice(KINDNESS)
        with open(told, encoding="utf-8") as file:
            follow(json.load(file), parent)
        word = ""
    except BaseException as error:  # SystemExit too
        word = shortened(str(error), 400) if isinstance(error, GenError) else said(error)
    os.write(answers, (json.dumps(word) + "\n").encode())
    sys.stdout.flush()
    os._exit(0)  # what a tracker left running keeps nobody


def follow(told: dict[str, Any], parent: int) -> None:
    """Build the tracker and hand it everything until the end."""
    folder, home = Path(told["run"]["folder"]), Path(told["home"])
    with alone(folder), closing(Following(home / "events.jsonl")) as events:
        tracker = built(Component(**told["component"]), told["options"])
        tracker.start(TrackedRun(**{**told["run"], "folder": folder}))
        while (state := _ended(told["every"], parent)) is None:
            _hand_on(events, tracker)
        _hand_on(events, tracker)
        scores = scores_of(home)
        if scores:
            tracker.scores(scores)
        report = home / "report.html"
        tracker.end(state, report if report.exists() else None)


def built(component: Component, options: dict[str, Any]) -> Tracker:
    """The tracker with its settings, which the recipe has checked already."""
    problems: list[Any] = []
    found = read_options(component.options_class(), options, (), lambda *problem: problems.append(problem))
    if problems:
        raise ValueError(f"settings: {problems[0][1]}")
    return component.build(found, None)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the tracker's folder; the process of a run that was killed may still be writing there."""
    with (folder / ".lock").open("w") as lock:
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise RuntimeError("another process still tracks this run") from None
                time.sleep(0.05)
        yield


def _ended(seconds: float, parent: int) -> str | None:
    """How the run ended, None when it has not within `seconds`; a run that is gone without a word has failed."""
    heard = bool(select.select([0], [], [], seconds)[0])
    if not heard and os.getppid() == parent:
        return None
    signal.alarm(LAST)
    return (os.read(0, 64).decode().strip() if heard else "") or "failed"


def _hand_on(events: Following, tracker: Tracker) -> None:
    news = events.news()
    for stage, points, anew in news:
        tracker.points(stage, points, anew)
    if news:
        tracker.flush()


def scores_of(home: Path) -> list[Score]:
    """The scores of a run, when `evaluate` is finished."""
    folder = home / "steps" / "evaluate"
    results = (read_json(folder / "metrics.json") or {}).get("results", {}) if read_sealed(folder / DONE) else {}
    keys = ("name", "value", "source", "against", "low", "high", "floor", "n")
    return [
        Score(metric, **{key: value[key] for key in keys})
        for metric, result in results.items()
        for value in result["values"]
        if value["value"] is not None
    ]
