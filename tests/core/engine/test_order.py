"""Data order is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections import Counter

import pytest

from gen_core.engine import order


@pytest.mark.parametrize("n", [1, 5, 13])
def test_each_epoch_is_a_permutation_and_epochs_differ(n):
    orders = [order.permutation(3, epoch, n) for epoch in range(4)]
    assert all(sorted(o) == list(range(n)) for o in orders)
    if n == 13:
        assert len(set(orders)) == 4 and order.permutation(4, 0, n) != orders[0]


@pytest.mark.parametrize("n, batch", [(7, 4), (7, 7), (3, 8), (1, 2), (12, 4)])
def test_the_stream_runs_through_permutation_after_permutation(n, batch):
    stream = [pair for pairs in order.plan(5, 0, 21, batch, n) for pair in pairs]
    assert len(stream) == 21 * batch
    for epoch in range(len(stream) // n):
        part = stream[epoch * n : (epoch + 1) * n]
        assert {e for _, e in part} == {epoch}
        assert sorted(i for i, _ in part) == list(range(n))
    assert max(Counter(i for i, _ in stream).values()) - min(Counter(i for i, _ in stream).values()) <= 1


def test_any_step_can_be_found_without_walking_there():
    walked = list(order.plan(5, 0, 30, 4, 7))
    assert list(order.plan(5, 17, 30, 4, 7)) == walked[17:]
    order.permutation.cache_clear()
    assert order.step_samples(5, 23, 4, 7) == walked[23]


@pytest.mark.parametrize("batch, micro_batches", [(10, 1), (10, 2), (6, 3)])
def test_processes_share_every_micro_batch_without_overlap(batch, micro_batches):
    parts = [order.positions_of(batch, micro_batches, rank, 2) for rank in range(2)]
    assert sorted(sum(parts, [])) == list(range(batch)) and abs(len(parts[0]) - len(parts[1])) <= micro_batches
    size = batch // micro_batches
    assert all([p // size for p in part] == sorted(p // size for p in part) for part in parts)
    whole = order.step_samples(5, 9, batch, 7)
    assert [whole[p] for p in parts[1]] == order.step_samples(5, 9, batch, 7, parts[1])


def test_a_process_without_a_sample_gets_a_stand_in():
    assert [order.positions_of(2, 1, rank, 3) for rank in range(3)] == [[0], [0], [1]]
    assert [order.positions_of(2, 2, rank, 2) for rank in range(2)] == [[0, 1], [0, 1]]


def test_epochs_start_where_their_first_sample_leads_a_step():
    # n = 7, batch = 4: positions 0, 4 | 8, 12 | 16, 20 | 24 | 28
    assert [order.epoch_of(s, 4, 7) for s in range(8)] == [0, 0, 1, 1, 2, 2, 3, 4]
    assert [s for s in range(8) if order.starts_epoch(s, 4, 7)] == [0, 2, 4, 6, 7]


def test_slices_cover_a_batch_in_nearly_equal_parts():
    for batch in (1, 5, 8):
        for parts in range(1, batch + 1):
            cuts = [order.batch_slice(batch, p, parts) for p in range(parts)]
            assert cuts[0][0] == 0 and cuts[-1][1] == batch
            assert all(a[1] == b[0] for a, b in zip(cuts, cuts[1:]))
            sizes = {b - a for a, b in cuts}
            assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
