"""Streamed Gaussians against numpy on all rows at once."""

import numpy as np
import pytest
import torch

from gen_metrics.moments import GroupMoments


def rows(n, seed):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) + 3


def test_streamed_covariance_equals_that_of_all_rows():
    m = GroupMoments(4, 3)
    for i in range(7):
        m.add(rows(5 + i, i), i % 3)
    everything = torch.cat([rows(5 + i, i) for i in range(7)]).double().numpy()
    mean, cov = m.gaussian()
    assert mean.numpy() == pytest.approx(everything.mean(0), abs=1e-12)
    assert cov.numpy() == pytest.approx(np.cov(everything.T), abs=1e-12)
    assert m.count == len(everything) and int(m.volumes.sum()) == 7


def test_leaving_a_group_out_equals_never_having_seen_it():
    m, less = GroupMoments(4, 3), GroupMoments(4, 3)
    for i in range(6):
        m.add(rows(6, i), i % 3)
        if i % 3 != 1:
            less.add(rows(6, i), i % 3)
    for a, b in zip(m.without(1), less.gaussian()):
        assert torch.allclose(a, b, atol=1e-12)


def test_merging_equals_one_stream():
    a, b, whole = (GroupMoments(4, 2) for _ in range(3))
    for i in range(4):
        (a if i < 2 else b).add(rows(5, i), i % 2)
        whole.add(rows(5, i), i % 2)
    a.merge(b)
    assert torch.allclose(a.gaussian()[1], whole.gaussian()[1], atol=1e-13)
