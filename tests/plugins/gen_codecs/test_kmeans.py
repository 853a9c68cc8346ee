"""Held against scikit-learn's Lloyd iterations from the same start, and closed cases."""

import pytest
import torch
from sklearn.cluster import KMeans

from gen_codecs.kmeans import kmeans, seed_plus_plus


def inertia(v, centres):
    return torch.cdist(v.double(), centres.double()).min(1).values.square().sum().item()


def blobs(n, c, k, seed):
    g = torch.Generator().manual_seed(seed)
    middles = 3 * torch.randn(k, c, generator=g)
    return middles[torch.randint(k, (n,), generator=g)] + torch.randn(n, c, generator=g)


@pytest.mark.parametrize(("n", "c", "k", "iterations"), [(3000, 8, 64, 10), (900, 3, 11, 25), (700, 5, 2, 4)])
def test_inertia_is_that_of_scikit_learn_from_the_same_start(n, c, k, iterations):
    v = blobs(n, c, k, seed=k)
    start = v[torch.randperm(n, generator=torch.Generator().manual_seed(1))[:k]]
    centres, sizes = kmeans(v, start, iterations)
    peer = KMeans(k, init=start.double().numpy(), n_init=1, max_iter=iterations, tol=0).fit(v.double().numpy())
    assert inertia(v, centres) <= 1.001 * peer.inertia_
    assert inertia(v, centres) < 0.99 * inertia(v, start)
    assert sizes.sum() == n


def test_inertia_with_empty_clusters_is_that_of_scikit_learn():
    v = blobs(1000, 4, 20, seed=3)
    start = torch.cat((v[:10], 100 + torch.randn(22, 4, generator=torch.Generator().manual_seed(0))))
    centres, sizes = kmeans(v, start, 30)
    peer = KMeans(32, init=start.double().numpy(), n_init=1, max_iter=30, tol=0).fit(v.double().numpy())
    assert (sizes > 0).all()
    assert inertia(v, centres) <= 1.02 * peer.inertia_  # which vectors refill is a free choice


def test_inertia_never_rises():
    v = blobs(400, 3, 9, seed=4)
    centres, values = v[:13], []
    for _ in range(8):
        centres, _ = kmeans(v, centres, 1)
        values.append(inertia(v, centres))
    assert values == sorted(values, reverse=True) and values[-1] < values[0]


def test_two_clusters_on_a_line_end_in_their_means():
    v = torch.tensor([[0.0], [2.0], [10.0], [11.0], [15.0]])
    centres, sizes = kmeans(v, torch.tensor([[0.0], [1.0]]), 10)
    assert torch.allclose(centres, torch.tensor([[1.0], [12.0]]))
    assert sizes.tolist() == [2, 3]


def test_fewer_vectors_than_centres_each_get_one():
    v = torch.tensor([[0.0, 1.0], [4.0, 5.0], [9.0, 7.0]])
    centres, sizes = kmeans(v, torch.zeros(6, 2), 5)
    assert torch.isfinite(centres).all()
    assert inertia(v, centres) == 0
    assert sizes.sum() == 3


def test_the_start_is_left_as_it_was():
    v, start = torch.randn(50, 2), torch.randn(4, 2)
    copy = start.clone()
    kmeans(v, start, 3)
    assert torch.equal(start, copy)


def test_plus_plus_takes_one_vector_of_each_distant_group():
    g = torch.Generator().manual_seed(0)
    groups = 1e4 * torch.eye(7)[torch.arange(140) % 7] + 0.01 * torch.randn(140, 7, generator=g)
    centres = seed_plus_plus(groups, 7, g)
    assert sorted(centres.argmax(1).tolist()) == list(range(7))
    assert torch.equal(seed_plus_plus(groups, 7, g.manual_seed(5)), seed_plus_plus(groups, 7, g.manual_seed(5)))


def test_plus_plus_takes_equal_vectors():
    centres = seed_plus_plus(torch.ones(9, 2), 4, torch.Generator().manual_seed(0))
    assert torch.equal(centres, torch.ones(4, 2))
