"""Checks of metrics and reports: good ones pass, bad ones are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_core.batch import Batch
from gen_core.metric import Metric, Result, Value
from gen_core.report import Report
from gen_core.testing import (
    check_metric,
    check_report,
)

B, C, D, H, W = 3, 2, 4, 6, 8


def volumes(n: int = B) -> torch.Tensor:
    return torch.rand(n, C, D, H, W, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch(n: int = B, **more) -> Batch:
    names = [f"v{i}" for i in range(n)]
    return Batch(x=volumes(n), ids=names, subjects=names, hashes=names, **more)


class GoodMetric(Metric):
    sources = ("val", "synthetic")

    def __init__(self):
        self.means: dict[str, dict[str, float]] = {"val": {}, "synthetic": {}}

    def update(self, batch, source):
        self.means[source] |= dict(zip(batch.ids, batch.x.double().mean((1, 2, 3, 4)).tolist()))

    def merge(self, other):
        for source, values in other.means.items():
            self.means[source] |= values

    def compute(self):
        a, b = (np.mean([v for _, v in sorted(self.means[s].items())]) for s in ("synthetic", "val"))
        return Result([Value("gap", float(a - b), "synthetic", "val", n=3)], {"definition": "difference of means"})


class LastBatch(GoodMetric):
    def update(self, batch, source):
        self.means[source] = {}
        super().update(batch, source)


class BatchMeans(GoodMetric):
    def update(self, batch, source):
        self.means[source][batch.ids[0]] = batch.x.double().mean().item() * len(batch) ** 0.5


class NoProtocolMetric(GoodMetric):
    def compute(self):
        return Result(super().compute().values)


class NotANumber(GoodMetric):
    def compute(self):
        return Result([Value("gap", float("nan"))], {"a": 1})


class HalfInterval(GoodMetric):
    def compute(self):
        return Result([Value("gap", 1.0, low=0.0)], {"a": 1})


class BadMerge(GoodMetric):
    def merge(self, other):
        self.means = other.means


class Counts(GoodMetric):
    calls = 0

    def compute(self):
        self.calls += 1
        return Result([Value("gap", float(self.calls))], {"a": 1})


class Spoils(GoodMetric):
    def update(self, batch, source):
        batch.x.mul_(0.5)
        super().update(batch, source)


class WrongSource(GoodMetric):
    sources = ("val", "fake")


def pairs():
    return [
        ("val", batch(3)),
        ("synthetic", batch(2)),
        ("synthetic", Batch(volumes(5)[2:], ids=["v2", "v3", "v4"])),
    ]


def test_a_good_metric_passes():
    check_metric(GoodMetric, pairs())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LastBatch, "depends on the order of batches"),
        (BatchMeans, "depends on the size of batches"),
        (NoProtocolMetric, "protocol is empty"),
        (NotANumber, "value 'gap' is nan"),
        (HalfInterval, "an interval has two ends"),
        (BadMerge, "merge gives another result"),
        (Counts, "another result the second time"),
        (Spoils, "update changes the batch"),
        (WrongSource, r"sources names \['fake'\]"),
    ],
)
def test_a_bad_metric_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_metric(cls, pairs())


class GoodReport(Report):
    head = '<a href="https://example.org">paper</a>'

    def write(self, run, path):
        path.write_text(f"<html>{self.head}{run.name} {run.metrics.get('fid', '-')}</html>")
        return [path]


class Remote(GoodReport):
    head = '<script src="https://cdn.example.org/x.js"></script>'


class Demanding(GoodReport):
    def write(self, run, path):
        return [path] if run.metrics["fid"] else []


class Nameless(GoodReport):
    def write(self, run, path):
        path.write_text("<html></html>")
        return [path]


def test_reports_are_checked(tmp_path):
    check_report(GoodReport(), tmp_path)
    with pytest.raises(AssertionError, match="the page loads from the network"):
        check_report(Remote(), tmp_path)
    with pytest.raises(AssertionError, match="fails on an empty run: KeyError"):
        check_report(Demanding(), tmp_path)
    with pytest.raises(AssertionError, match="does not name the run 'empty'"):
        check_report(Nameless(), tmp_path)
