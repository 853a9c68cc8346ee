"""The metric interface: streamed updates from named sources, results with protocol, interval and floor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from attrs import Factory, asdict, define

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.errors import UsageError
from gen_core.volume import VolumeSpec

SOURCES = ("train", "val", "reconstruction", "reconstruction-train", "synthetic")
"""train, val: real volumes. reconstruction: decode(encode(val)); reconstruction-train: of train. synthetic: samples."""


class MetricContext(Protocol):
    """What a metric may ask for; everything is loaded on first use."""

    spec: VolumeSpec
    seed: int
    device: Any
    counts: dict[str, int]  # volumes of each source that this evaluation will deliver
    real_splits_disjoint: bool
    cost: dict[str, Any]  # measured times of the run so far, by step (for throughput)
    prepared: dict[str, Any]  # what the data set's `prepare` recorded, such as ceilings of its labels
    cache: Path | None  # a folder shared by runs for what is dear to compute again, such as features of real volumes

    def codec(self) -> Any: ...
    def prior(self) -> Any: ...
    def features(self, table: str) -> Any: ...
    def segmenter(self, table: str) -> Any: ...

    def conditions(self, batch: Batch) -> Conditions:
        """What the prior is told of the volumes of a batch; empty where the recipe declares no condition."""
        ...


@define
class Value:
    """One score. source: what was scored; against: the reference source or "".

    low, high: interval, made as `interval` says. floor: the same score of train against val (what a perfect
    sampler would reach), None where it has no meaning. n: volumes behind it. flag: a warning, "" if none.
    """

    name: str
    value: float
    source: str = ""
    against: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""
    floor: float | None = None
    n: int = 0
    better: str = ""  # "lower", "higher", "match" (as near to the floor as can be) or ""
    flag: str = ""


@define
class Result:
    """What a metric found. protocol: extractor and its hash, N, seed, definition: enough to reproduce the figure.

    extra: JSON for the report (neighbours, curves, signatures). timing: values depend on the clock and go to cost.json.
    """

    values: list[Value]
    protocol: dict[str, Any] = Factory(dict)
    extra: dict[str, Any] = Factory(dict)
    timing: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Metric(ABC):
    """Built as `build(options, context)`. `sources` says which streams it wants, `needs` what those must carry.

    needs: any of "features", "segmenter", "pairs" (batch.reference), "masks", "prior", "codec".
    """

    sources: tuple[str, ...] = ("val", "synthetic")
    needs: tuple[str, ...] = ()

    @abstractmethod
    def update(self, batch: Batch, source: str) -> None:
        """Take in a batch; the result must not depend on the order or size of batches beyond rounding."""

    def merge(self, other: Metric) -> None:
        """Take over what `other`, built alike, has seen (several processes)."""
        raise TypeError(f"metric {type(self).__name__} cannot be merged")

    @abstractmethod
    def compute(self) -> Result: ...

    def judge(self) -> dict[str, str]:
        """After all updates: id of each synthetic volume that should be set aside -> why, in one line.

        Asked of the metrics that [evaluate.reject] names; those that offer no judgement refuse.
        """
        raise UsageError(f"[evaluate.reject] by: {type(self).__name__} does not judge single samples")
