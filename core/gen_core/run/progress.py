"""What a run tells while it works: the calls of a progress display, and the display that shows nothing."""

from __future__ import annotations


class Silent:
    """A progress display that shows nothing."""

    def update(self, stage: str, step: int, total: int, values: dict[str, float], speed: float | None) -> None:
        """Nothing to show."""

    def step_started(self, name: str, why: str) -> None:
        """Nothing to show."""

    def step_finished(self, name: str, seconds: float, note: str) -> None:
        """Nothing to show."""

    def say(self, message: str) -> None:
        """Nothing to show."""
