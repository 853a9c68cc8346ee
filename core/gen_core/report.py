"""The report interface: what a finished run shows of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from gen_core.errors import UsageError
from gen_core.volume import VolumeSpec


@frozen(eq=False)
class Features:
    """What a feature network makes of the volumes of a run.

    name: the recipe's table; vectors: "train", "val", "synthetic" -> (n, dim) float array.
    """

    name: str
    dim: int
    vectors: dict[str, Any]


class RunView(Protocol):
    """A finished run, read only. Anything may be missing (None or empty) when its step was left out.

    recipe: the resolved recipe as nested dicts; events: the lines of events.jsonl (dicts with at least
    "kind" and "step"); metrics / cost: metrics.json / cost.json; prepared: what `Dataset.prepare` recorded;
    steps: by name of the finished step what it recorded, such as "parameters", "steps" and "notes".
    """

    name: str
    folder: Path
    recipe: dict[str, Any]
    events: list[dict[str, Any]]
    metrics: dict[str, Any]
    cost: dict[str, Any]
    prepared: dict[str, Any]
    steps: dict[str, dict[str, Any]]
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

    def find(self, id: str, most: int = 0) -> Any | None:
        """The volume (`Sample`) of that id: a sample, a rejected one included, else of training or validation.

        most: real volumes of a split looked through at most (0: all).
        """
        ...

    def rejected(self) -> dict[str, list[str]]:
        """Id -> reasons of every sample that was set aside."""
        ...

    def features(self, n: int) -> Features | None:
        """Vectors of at most n volumes of each source, from the network that the metrics use for whole volumes."""
        ...

    def interpolation(self, frames: int, most_steps: int) -> list[tuple[float, Any]]:
        """(share, x) from sample 0 to sample 1 through their noise, with at most so many sampler steps."""
        ...

    def denoising(self, frames: int, most_steps: int) -> list[tuple[float, Any, Any]]:
        """(t, x of z_t, x of the estimate of z_0) along the way of sample 0."""
        ...


class Report(ABC):
    """Built as `build(options, None)`."""

    @abstractmethod
    def write(self, run: RunView, path: Path) -> list[Path]:
        """Write the page to `path` (one self-contained file, atomic)."""

    def compare(self, comparison: Any, path: Path) -> list[Path]:
        """Draw the Pareto front of a `gen_core.run.studies.compare.Comparison` to `path` (.png or .svg). Optional."""
        raise UsageError(f"the report {type(self).__name__} draws no comparisons")
