"""How far a run is: a live display on a terminal, a line now and then everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gen_cli.show import duration, number

EVERY = 5.0  # seconds between two plain lines of one stage
SHOWN = 4  # values a line
UNSHOWN = ("lr", "grad_norm")  # they stand in events.jsonl


@contextmanager
def progress_on(stream: TextIO | None = None) -> Iterator[Any]:
    """The display that suits `stream` (default: stdout), for as long as the context lasts."""
    stream = stream or sys.stdout
    if stream.isatty():
        with LiveProgress(stream) as live:
            yield live
    else:
        yield PlainProgress(stream)


def chosen(values: dict[str, float]) -> str:
    """The few values that a line has room for: "loss 0.0312, l1 0.021"."""
    names = [n for n in values if n.rpartition("/")[2] not in UNSHOWN]
    names.sort(key=lambda n: n != "loss")
    return ", ".join(f"{n} {_figure(values[n])}" for n in names[:SHOWN])


def _figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else number(value, 3)


def _rate(speed: float | None) -> str:
    if not speed:
        return ""
    return f"{number(speed, 3)} steps/s" if speed >= 1 else f"{number(1 / speed, 3)} s/step"


class _Clock:
    """Time left of a stage: from the speed that is told, else from the steps since the stage was first seen."""

    def __init__(self) -> None:
        self.stage, self.first, self.then = "", 0, 0.0

    def left(self, stage: str, step: int, total: int, speed: float | None) -> float | None:
        now = time.monotonic()
        if stage != self.stage or step < self.first:
            self.stage, self.first, self.then = stage, step, now
        if not speed and step > self.first:
            speed = (step - self.first) / max(now - self.then, 1e-9)
        return (total - step) / speed if speed and total > step else None


class PlainProgress:
    """Lines: one when a step starts or ends, at most one every few seconds in between."""

    def __init__(self, stream: TextIO, every: float = EVERY) -> None:
        self.stream, self.every = stream, every
        self._clock, self._last = _Clock(), -float("inf")

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def update(self, stage: str, step: int, total: int, values: dict[str, float], speed: float | None) -> None:
        """Where a stage stands; most calls print nothing."""
        left, now = self._clock.left(stage, step, total, speed), time.monotonic()
        if now - self._last < self.every:
            return
        self._last = now
        parts = [chosen(values), _rate(speed), f"{duration(left)} left" if left else ""]
        self._line("  ".join([f"{stage} {step}/{total}", *(p for p in parts if p)]))

    def step_started(self, name: str, why: str) -> None:
        """A step starts, or is not needed: `why` says it."""
        self._last = time.monotonic()  # the first line of a stage after it has run for a while
        self._line(f"{name}: {why or 'starts'}")

    def step_finished(self, name: str, seconds: float, note: str) -> None:
        """A step is done."""
        self._line(f"{name}: done in {duration(seconds)}" + (f", {note}" if note else ""))

    def say(self, message: str) -> None:
        """Something the user should know."""
        self._line(message)


class LiveProgress:
    """A bar with step, losses, speed and time left; finished steps stay above it as lines."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[steps]}", markup=False),
            TextColumn("{task.fields[values]}", markup=False, style="cyan"),
            TextColumn("{task.fields[rate]}", markup=False, style="dim"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=Console(file=stream),
            transient=True,
        )
        self._task: Any = None
        self._stage = ""
        self._clock = _Clock()

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _begin(self, stage: str) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._stage = stage
        self._task = self._bar.add_task(stage, total=None, steps="", values="", rate="", left="")

    def update(self, stage: str, step: int, total: int, values: dict[str, float], speed: float | None) -> None:
        """Where a stage stands."""
        if stage != self._stage:
            self._begin(stage)
        left = self._clock.left(stage, step, total, speed)
        self._bar.update(
            self._task,
            completed=step,
            total=total,
            steps=f"{step}/{total}",
            values=chosen(values),
            rate=_rate(speed),
            left=f"{duration(left)} left" if left else "",
        )

    def step_started(self, name: str, why: str) -> None:
        """A step starts, or is not needed: `why` says it."""
        if why and why != "goes on":
            self._print(f"- {name}: {why}", "dim")
            return
        if why:
            self._print(f"  {name}: {why}", "dim")
        self._begin(name)

    def step_finished(self, name: str, seconds: float, note: str) -> None:
        """A step is done."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task, self._stage = None, ""
        self._print(f"✓ {name}  {duration(seconds)}" + (f"  {note}" if note else ""), "green")

    def say(self, message: str) -> None:
        """Something the user should know."""
        self._print(f"  {message}", "")

    def _print(self, text: str, style: str) -> None:
        self._bar.console.print(text, style=style or None, markup=False, highlight=False)
