"""The contract check of trackers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

from gen_core.testing.say import require
from gen_core.tracker import STATES, Point, Score, TrackedRun, Tracker

SCORES = [
    Score("fid", "fid", 12.5, "synthetic", "train", low=11.0, high=14.0, floor=3.0, n=8),
    Score("psnr", "psnr", 31.0, "reconstruction"),
]


def points(first: int, last: int, kind: str = "train") -> list[Point]:
    """Points of steps first, first + 2, ..., with values of any size."""
    values = {"loss": 0.5, "discriminator/loss": -1e30, "lr": 1e-300}
    return [Point(kind, step, values, time=1.7e9 + step) for step in range(first, last + 1, 2)]


def check_tracker(make: Callable[[], Tracker], folder: Path) -> None:
    """A tracker, built afresh by `make` for each sitting of a run in `folder`, which must be empty.

    A sitting that is done, one that goes back to an earlier checkpoint and is stopped, one with nothing new that fails,
    one without any event. Raises: AssertionError with one sentence.
    """
    own = folder / "own"
    own.mkdir()
    sittings = {
        "that is the first": [("fit.codec", points(2, 8), True), ("fit.codec", points(8, 8, "validation"), False)],
        "that goes back": [
            ("fit.codec", points(2, 8), True),
            ("fit.codec", points(2, 4), True),
            ("fit.codec", points(6, 12), False),
            ("fit.features.own", [], True),
            ("fit.features.own", points(1, 3, "epoch"), False),
        ],
        "with nothing new": [("fit.codec", points(2, 12), True), ("fit.features.own", points(1, 3, "epoch"), True)],
        "without any event": [],
    }
    for number, (what, told) in enumerate(sittings.items()):
        tracker = make()
        name = type(tracker).__name__
        require(isinstance(tracker, Tracker), f"{name} is no gen_core.tracker.Tracker")
        recipe = {"gen": 1, "codec": {"use": "vqgan", "fit": {"lr": 1e-4, "betas": [0.5, 0.9], "crop": None}}}
        run = TrackedRun("small run", "0123456789abcdef", own, recipe)
        before = copy.deepcopy((told, recipe, SCORES))
        try:
            tracker.start(run)
            for stage, found, anew in told:
                tracker.points(stage, found, anew)
                tracker.flush()
            if number:
                tracker.scores(SCORES)
            tracker.end(STATES[number % len(STATES)], folder / "report.html" if number else None)
        except Exception as error:
            raise AssertionError(f"{name} fails in a sitting {what}: {type(error).__name__}: {error}") from error
        require(before == (told, recipe, SCORES), f"{name} changes what it is told in a sitting {what}")
        strange = sorted(path.name for path in folder.iterdir() if path != own)
        require(not strange, f"{name} writes outside of its folder: {', '.join(strange)}")
