"""Exact neighbours against scikit-learn."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import gen_metrics.neighbours as neighbours
from gen_metrics.neighbours import nearest, nearest_of_views


@pytest.mark.parametrize("distance, metric", [("l1", "manhattan"), ("l2", "euclidean"), ("cosine", "cosine")])
def test_neighbours_are_those_of_scikit_learn(distance, metric, monkeypatch):
    monkeypatch.setattr(neighbours, "_CHUNK", 17)  # several chunks
    monkeypatch.setattr(neighbours, "_QUERIES", 9)
    g = torch.Generator().manual_seed(0)
    base = torch.randn(71, 5, generator=g, dtype=torch.float64)
    queries = torch.randn(23, 5, generator=g, dtype=torch.float64)
    d, i = nearest(queries, base, 4, distance)
    exact = NearestNeighbors(n_neighbors=4, metric=metric, algorithm="brute").fit(base.numpy())
    want_d, want_i = exact.kneighbors(queries.numpy())
    assert d.numpy() == pytest.approx(want_d, abs=1e-9)
    assert (i.numpy() == want_i).all()


def test_a_row_counts_by_its_nearest_view():
    base = torch.tensor([[0.0, 0.0], [5.0, 5.0], [9.0, 0.0]], dtype=torch.float64)
    plain, mirrored = torch.tensor([[4.0, 4.0]]).double(), torch.tensor([[9.0, 1.0]]).double()
    d, i, view = nearest_of_views([plain, mirrored], base, 3, "l1")
    assert i.tolist() == [[2, 1, 0]] and d.tolist() == [[1.0, 2.0, 8.0]] and view.tolist() == [[1, 0, 0]]


def test_asking_for_more_neighbours_than_there_are_gives_all():
    d, i = nearest(torch.zeros(2, 3), torch.ones(4, 3), 10)
    assert d.shape == (2, 4) and i.tolist()[0] == [0, 1, 2, 3]
