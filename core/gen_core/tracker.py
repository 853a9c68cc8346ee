"""The tracker interface: curves, settings and scores of a run, handed to a board that people look at.

A tracker follows what `events.jsonl` says, in a process of its own: it may be slow, wait for a server, raise or crash
without the run noticing more than one line. Only numbers and settings come here: no volumes, no pictures, no names of
subjects or files.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from attrs import Factory, field, frozen

KINDS = ("train", "validation", "epoch")
"""Of events that become points: averages of losses with lr and grad_norm; held-out values; what an epoch began with."""
STATES = ("done", "stopped", "failed")
LEFT_OUT = "(left out)"  # in the place of a setting that is not told
BARE = ("dataset", "split", "condition")  # tables whose texts and lists may name files and people
UNTOLD = ("from", "init", "trackers")
_PATH = re.compile(r"[/\\]|^~|^(?!(features|segmenter|metrics)\.).*\.\w{1,11}$", re.DOTALL)


@frozen
class Point:
    """Values of a fit after `step` optimizer steps. kind: one of KINDS; time: seconds since 1970, when it was written.

    values: finite numbers by name: "loss", "lr", "grad_norm" of the first group, "discriminator/loss" of another.
    """

    kind: str
    step: int
    values: dict[str, float]
    time: float = field(default=0.0, eq=False)

    def named(self) -> dict[str, float]:
        """The values as "train/loss", "validation/l1", ..."""
        return {f"{self.kind}/{name}": value for name, value in self.values.items()}


@frozen
class Score:
    """One value of `evaluate`: see `gen_core.metric.Value`. metric: the recipe's table without "metrics."."""

    metric: str
    name: str
    value: float
    source: str = ""
    against: str = ""
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    n: int = 0

    @property
    def key(self) -> str:
        """Its place among the scores of a run: "fid/fid/synthetic/train"."""
        return "/".join(part for part in (self.metric, self.name, self.source, self.against) if part)


@frozen
class TrackedRun:
    """The run. id: of 16 letters, the same whenever the run goes on; folder: this tracker's own, in the run's folder.

    recipe: the resolved recipe as nested dicts, without what `sendable` leaves out.
    """

    name: str
    id: str
    folder: Path
    recipe: dict[str, Any] = Factory(dict)


class Tracker(ABC):
    """Built as `build(options, None)`, in its own process, each time `gen run` starts.

    The calls: start, then points and flush as they come, then scores and end. An exception in any of them ends the
    tracker, and the run tells it in one line.
    """

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """The run begins, or goes on."""

    @abstractmethod
    def points(self, stage: str, points: list[Point], anew: bool) -> None:
        """Points of a fit such as "fit.codec", in order.

        anew: these are all points of the fit so far, and those handed over before are void: so it is once at the start
        for every fit of earlier sittings, and when a fit goes on from an earlier checkpoint. Else they follow.
        What comes again after a checkpoint are the same numbers (on a GPU: but for rounding), so a tracker that can
        only append passes over the steps that it has.
        """

    def flush(self) -> None:
        """Make visible what came so far; called every few seconds while points come."""
        return None

    def scores(self, scores: list[Score]) -> None:
        """The scores of `evaluate`, when it is finished; again in each later sitting."""
        return None

    @abstractmethod
    def end(self, state: str, report: Path | None) -> None:
        """This sitting is over. state: one of STATES; report: the page on this machine, where there is one."""


def sendable(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what could name files or people.

    Left out are all texts that look like a path (with a slash, a backslash, a leading tilde or a file's suffix); the
    keys `from` and `init`; [trackers]; and of [dataset], [split] and [condition] every text and list but `use`.
    """
    told = {key: value for key, value in recipe.items() if key not in UNTOLD}
    return {key: _told(value, bare=key in BARE) for key, value in told.items()}


def _told(value: Any, bare: bool, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: LEFT_OUT if k in UNTOLD else _told(v, bare, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return LEFT_OUT if bare else [_told(v, bare, key) for v in value]
    if isinstance(value, str) and key != "use" and (bare or _PATH.search(value)):
        return LEFT_OUT
    return value
