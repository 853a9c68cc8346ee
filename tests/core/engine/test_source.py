"""Batches of a plan, in order, from volumes or latents."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from gen_core.condition import Conditions
from gen_core.dataset import Split
from gen_core.engine import order
from gen_core.engine.source import SplitSource, TensorSource, split_batches
from gen_core.errors import DataError, RunError, UsageError
from gen_core.volume import Sample

PLAN = list(order.plan(1, 0, 9, 4, 7))


class Volumes(Split):
    """Volume i, view e holds the number 100 i + e; `fault` is raised (or waited for) at volume 5."""

    def __init__(self, fault=None):
        self.fault, self.threads, self.release = fault, set(), threading.Event()

    def __len__(self):
        return 7

    def __getitem__(self, i):
        return self.view(i, 0)

    def view(self, i, draw):
        self.threads.add(threading.current_thread().name)
        if i == 5 and self.fault == "hang":
            self.release.wait(20)
        elif i == 5 and self.fault is not None:
            raise self.fault
        time.sleep(0.001 * (i % 3))
        x = np.full((1, 2, 3, 4), 100 * i + draw, np.float32)
        return Sample(x=x, id=f"v{i}", subject=f"s{i}", hash="", masks={"valid": x[0] > 0})


def _numbers(batches):
    return [b.x[:, 0, 0, 0, 0].int().tolist() for b in batches]


EXPECTED = [[100 * i + e for i, e in pairs] for pairs in PLAN]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_of_the_plan(workers):
    split = Volumes()
    source = SplitSource(split, workers)
    batches = list(source.stream(PLAN))
    source.close()
    assert _numbers(batches) == EXPECTED
    assert batches[0].x.shape == (4, 1, 2, 3, 4) and batches[0].masks["valid"].shape == (4, 1, 2, 3, 4)
    assert batches[0].ids == [f"v{i}" for i, _ in PLAN[0]]
    assert (threading.current_thread().name in split.threads) == (workers == 0)


def test_workers_read_ahead_but_not_without_bound():
    source, taken = SplitSource(Volumes(), 2), []
    stream = source.stream(taken.append(p) or p for p in PLAN)
    next(stream)
    assert len(taken) == 4  # two batches a worker
    stream.close()
    source.close()


def test_a_second_stream_starts_clean_after_one_was_left():
    source = SplitSource(Volumes(), 2)
    stream = source.stream(PLAN)
    next(stream)
    stream.close()
    assert _numbers(source.stream(PLAN[3:])) == EXPECTED[3:]
    source.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_about_data_arrives_as_it_is(workers):
    source = SplitSource(Volumes(DataError("v5.npy: truncated")), workers)
    with pytest.raises(DataError, match="v5.npy: truncated"):
        list(source.stream(PLAN))
    source.close()


@pytest.mark.parametrize("fault", [ValueError("odd"), SystemExit(3), TimeoutError("disk")])
def test_a_dead_worker_is_a_run_error_naming_the_volumes(fault):
    source = SplitSource(Volumes(fault), 2)
    with pytest.raises(RunError, match="reading volumes .*5"):
        list(source.stream(PLAN))
    source.close()


def test_a_hanging_worker_is_a_run_error_in_time():
    split = Volumes("hang")
    source = SplitSource(split, 1, timeout=0.1)
    began = time.monotonic()
    with pytest.raises(RunError, match="did not deliver volumes .* within 0.1 s"):
        list(source.stream(PLAN))
    assert time.monotonic() - began < 5
    split.release.set()
    source.close()


def test_split_batches_are_the_evaluated_volumes_in_order():
    batches = list(split_batches(Volumes(), 3, limit=5))
    assert _numbers(batches) == [[0, 100, 200], [300, 400]]
    assert sum(len(b) for b in split_batches(Volumes(), 3)) == 7


def test_latents_are_selected_by_index_and_view():
    z = torch.arange(2 * 7).float().reshape(2, 7, 1, 1, 1, 1).expand(2, 7, 2, 3, 4, 5)
    age = torch.arange(7.0)
    mask = torch.arange(14.0).reshape(2, 7, 1, 1, 1, 1)
    source = TensorSource(
        z, Conditions({"age": age, "mask": mask}, {"age": torch.arange(7) != 3}), ids=[f"v{i}" for i in range(7)]
    )
    assert len(source) == 7
    for pairs, batch in zip(PLAN, source.stream(PLAN)):
        rows = [7.0 * (e % 2) + i for i, e in pairs]
        assert batch.x[:, 1, 2, 3, 4].tolist() == rows and batch.x.shape == (4, 2, 3, 4, 5)
        assert batch.condition["mask"].flatten().tolist() == rows
        assert batch.condition["age"].tolist() == [float(i) for i, _ in pairs]
        assert batch.ids == [f"v{i}" for i, _ in pairs] and batch.present["age"].tolist() == [i != 3 for i, _ in pairs]


def test_latents_for_validation_are_the_first_view():
    z = torch.arange(14.0).reshape(2, 7, 1, 1, 1, 1)
    rows = [b.x.flatten().tolist() for b in TensorSource(z).batches(3, limit=4)]
    assert rows == [[0, 1, 2], [3]]


def test_latents_of_another_rank_and_conditions_of_another_length_are_refused():
    with pytest.raises(UsageError, match=r"\(7, 3\)"):
        TensorSource(torch.zeros(7, 3))
    with pytest.raises(UsageError, match="condition 'age'"):
        TensorSource(torch.zeros(7, 1, 1, 1, 1), Conditions({"age": torch.zeros(6)}))
