"""The report interface: what a finished run shows of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from gen_core.errors import UsageError
from gen_core.volume import VolumeSpec


class RunView(Protocol):
    """A finished run, read only. Anything may be missing (None or empty) when its step was left out.

    recipe: the resolved recipe as nested dicts; events: the lines of events.jsonl (dicts with at least
    "kind" and "step"); metrics / cost: metrics.json / cost.json; prepared: what `Dataset.prepare` recorded.
    """

    name: str
    folder: Path
    recipe: dict[str, Any]
    events: list[dict[str, Any]]
    metrics: dict[str, Any]
    cost: dict[str, Any]
    prepared: dict[str, Any]
    spec: VolumeSpec

    def real(self, split: str, n: int) -> list[Any]:
        """The first n samples (`Sample`) of a split."""
        ...

    def reconstructions(self, n: int) -> list[tuple[Any, Any]]:
        """(sample, x_hat (C, D, H, W) float32) of the first n validation volumes."""
        ...

    def synthetic(self, n: int) -> list[tuple[str, Any]]:
        """(id, x (C, D, H, W) float32 in [-1, 1]) of the first n samples."""
        ...


class Report(ABC):
    """Built as `build(options, None)`."""

    @abstractmethod
    def write(self, run: RunView, path: Path) -> list[Path]:
        """Write the page to `path` (one self-contained file, atomic)."""

    def compare(self, comparison: Any, path: Path) -> list[Path]:
        """Draw the Pareto front of a `gen_core.run.compare.Comparison` to `path` (.png or .svg). Optional."""
        raise UsageError(f"the report {type(self).__name__} draws no comparisons")
