"""The dataset interface: pure reading, splits by subject, views as a function of (seed, index, draw)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gen_core.options import SplitOptions, VolumeOptions
from gen_core.volume import Sample, VolumeSpec


@frozen
class DatasetContext:
    """What core hands to a dataset's `build(options, context)`."""

    volume: VolumeOptions
    split: SplitOptions
    seed: int
    cache: Path  # a folder shared by runs, for preprocessed volumes; entries are keyed and written atomically
    limit: int = 0  # volumes a split at most (smoke runs); 0 = no limit


class Split(Sequence[Sample]):
    """A list of samples that reads on access; any order, thread or process gives the same tensors.

    Several threads may read at once: open files in each call, or map them into memory.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, i: int) -> Sample:  # type: ignore[override]
        """The i-th volume as it is evaluated: no augmentation."""

    def view(self, i: int, draw: int) -> Sample:
        """The draw-th augmented or cropped view of volume i: a pure function of (seed, i, draw)."""
        return self[i]

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


class Dataset(ABC):
    """Volumes of one kind. `spec` is known without reading any volume whole."""

    spec: VolumeSpec

    @abstractmethod
    def split(self, name: str) -> Split:
        """The split "train", "val" or "test"."""

    def prepare(self, progress: Any = None) -> dict[str, Any]:
        """Fill caches, compute scales, refuse equal content in two splits; return what `prepare` should record.

        The result is JSON: at least {"splits": {name: {"volumes": n, "subjects": [...]}}, "notes": [...]}.
        Where it is known how well a yes-no condition can be told from volumes at most: "ceilings": {condition:
        {"auc": of the best observer, "splits": {name: its AUC on these volumes}, "definition": "..."}}.
        Called once a run; a dataset built again later finds the cache.
        """
        return {}

    def fingerprint(self) -> dict[str, Any]:
        """JSON that changes when the source data change (for example a hash over names, sizes and times)."""
        return {}


def view_generator(seed: int, i: int, draw: int) -> np.random.Generator:
    """The generator of view `draw` of volume `i`: (seed, i, draw) and nothing else decides."""
    return np.random.default_rng([abs(seed), i, draw])
