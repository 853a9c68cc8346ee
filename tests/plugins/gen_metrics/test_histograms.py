"""Wasserstein distances of bands against scipy's, within the stated error; groups, parts, empty bands."""

import pytest
import torch
from scipy.stats import wasserstein_distance

from gen_metrics.histograms import WIDTH, GroupHistograms, wasserstein


def rows(n, seed, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return (0.3 * torch.randn(n, 3, generator=g) * torch.tensor([0.2, 1.0, 2.0]) + shift).clamp(-1, 1)


def histogram(*parts):
    h = GroupHistograms(3, len(parts))
    for group, part in enumerate(parts):
        h.add(part, group)
    return h


def test_distances_are_scipys_within_a_bin():
    a, b = rows(700, 0), rows(500, 1, 0.17)
    found = wasserstein(histogram(a).total(), histogram(b).total())
    want = [wasserstein_distance(a[:, k], b[:, k]) for k in range(3)]
    assert found.tolist() == pytest.approx(want, abs=WIDTH)
    assert (found > 0.05).all()


def test_a_group_can_be_left_out_and_parts_add_up():
    a, b = rows(40, 2), rows(60, 3)
    both = histogram(a, b)
    assert torch.equal(both.total(without=0), histogram(b).total())
    left, right = GroupHistograms(3, 2), GroupHistograms(3, 2)
    left.add(a, 0)
    right.add(b, 1)
    left.merge(right)
    assert torch.equal(left.total(), both.total())


def test_the_rim_of_the_range_is_counted_and_empty_bands_give_zero():
    h = GroupHistograms(3)
    h.add(torch.tensor([[-1.0, 1.0, 1.0]]))
    assert h.total()[0, 0] == h.total()[1, -1] == 1
    assert wasserstein(GroupHistograms(3).total(), GroupHistograms(3).total()).tolist() == [0, 0, 0]
