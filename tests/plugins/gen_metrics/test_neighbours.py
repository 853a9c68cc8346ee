"""Neighbours against scikit-learn; every way gives the same figures, an approximate one says how good it is."""

import builtins
import sys

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import gen_metrics.neighbours as neighbours
import gen_metrics.vector_indexes as indexes
from gen_core.errors import MissingError
from gen_metrics.neighbours import Neighbours, l1_distances, nearest, nearest_of_views

NAMES = {"l1": "manhattan", "l2": "euclidean", "cosine": "cosine"}


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("distance", NAMES)
@pytest.mark.parametrize("dim", [5, 300])
def test_neighbours_are_those_of_scikit_learn(distance, dim, monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 17)  # several chunks
    monkeypatch.setattr(neighbours, "_QUERIES", 9)
    base, queries = rows(71, dim, 0), rows(23, dim, 1)
    d, i = nearest(queries, base, 4, distance)
    exact = NearestNeighbors(n_neighbors=4, metric=NAMES[distance], algorithm="brute").fit(base.numpy())
    want_d, want_i = exact.kneighbors(queries.numpy())
    assert d.numpy() == pytest.approx(want_d, abs=1e-9)
    assert (i.numpy() == want_i).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocked_manhattan_distances_are_those_of_cdist(dtype, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 300 * 7)
    a, b = rows(5, 300, 0).to(dtype), rows(23, 300, 1).to(dtype)
    b[3] = a[2]
    got = l1_distances(a, b)
    assert torch.allclose(got, torch.cdist(a, b, p=1.0), rtol=1e-5)
    assert got[2, 3] == 0.0


@pytest.mark.parametrize("distance", NAMES)
def test_copies_have_distance_zero_and_equal_rows_come_in_order(distance):
    base = rows(9, 40, 2).repeat(3, 1) + 1000.0  # far from 0, where products cancel
    d, i = nearest(base[4:5], base, 3, distance)
    assert i.tolist() == [[4, 13, 22]] and d.max() < 1e-12


def test_float32_rows_far_from_zero_lose_no_neighbour():
    base, queries = rows(400, 64, 3).float() + 300, rows(20, 64, 4).float() + 300
    _, i = nearest(queries, base, 5)
    _, want = nearest(queries.double(), base.double(), 5)
    assert (i == want).all()


def test_a_row_counts_by_its_nearest_pair_of_views():
    base = torch.tensor([[0.0, 0.0], [5.0, 5.0], [9.0, 0.0]], dtype=torch.float64)
    plain, mirrored = torch.tensor([[4.0, 4.0]]).double(), torch.tensor([[9.0, 1.0]]).double()
    bases = [Neighbours(base, "l1"), Neighbours(base - 4, "l1")]
    d, i, view, version = nearest_of_views([plain, mirrored], bases[:1], 3)
    assert i.tolist() == [[2, 1, 0]] and d.tolist() == [[1.0, 2.0, 8.0]] and view.tolist() == [[1, 0, 0]]
    assert version.tolist() == [[0, 0, 0]]
    d, i, view, version = nearest_of_views([plain, mirrored], bases, 2)
    assert i.tolist() == [[2, 1]] and version.tolist() == [[0, 0]]
    _, i, view, version = nearest_of_views([torch.tensor([[1.1, 1.0]]).double()], bases, 1)
    assert (i.item(), view.item(), version.item()) == (1, 0, 1)


def test_asking_for_more_neighbours_than_there_are_gives_all():
    d, i = nearest(torch.zeros(2, 3), torch.ones(4, 3), 10)
    assert d.shape == (2, 4) and i.tolist()[0] == [0, 1, 2, 3]


@pytest.mark.parametrize("distance", NAMES)
def test_faiss_gives_the_same_figures_to_the_last_digit(distance):
    pytest.importorskip("faiss")
    base, queries = rows(300, 30, 5), rows(11, 30, 6)
    for got, want in zip(nearest(queries, base, 7, distance, "faiss"), nearest(queries, base, 7, distance)):
        assert torch.equal(got, want)


@pytest.mark.parametrize("distance", NAMES)
def test_a_graph_says_its_recall_and_measures_exactly(distance):
    pytest.importorskip("hnswlib")
    base, queries = rows(500, 12, 5), rows(40, 12, 6)
    search = Neighbours(base, distance, "hnsw", seed=3)
    d, i = search(queries, 5)
    want_d, want_i = nearest(queries, base, 5, distance)
    assert search.method == "hnsw"
    assert search.recall(queries, 5) == pytest.approx(float((i[:, :, None] == want_i[:, None]).any(2).double().mean()))
    assert search.recall(queries, 5) > 0.9
    same = i == want_i
    assert torch.equal(d[same], want_d[same])


class FakeHnsw:
    """Stands in for hnswlib: finds the true L2 neighbours but the nearest."""

    class Index:
        def __init__(self, space, dim):
            assert space == "l2"

        def init_index(self, **settings):
            self.settings = settings

        def add_items(self, items, num_threads):
            self.items, self.threads = torch.from_numpy(items), num_threads

        def set_ef(self, ef):
            self.ef = ef

        def knn_query(self, queries, k, num_threads):
            d = torch.cdist(torch.from_numpy(queries), self.items)
            d[torch.arange(len(d)), d.argmin(1)] = torch.inf
            return d.argsort(1)[:, :k].numpy().astype("uint64"), None


def test_recall_counts_what_a_graph_misses(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", FakeHnsw)
    monkeypatch.setattr(indexes, "hnsw_installed", lambda: True)
    base, queries = rows(90, 6, 0), rows(10, 6, 1)
    search = Neighbours(base, "l2", "hnsw")
    _, i = search(queries, 4)
    assert (i == nearest(queries, base, 5)[1][:, 1:]).all()
    assert search.recall(queries, 4) == pytest.approx(3 / 4)


def test_very_large_sets_take_the_graph_and_small_ones_never(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", FakeHnsw)
    for module in (indexes, neighbours):
        monkeypatch.setattr(module, "hnsw_installed", lambda: True)
        monkeypatch.setattr(module, "faiss_installed", lambda: False)
    search = Neighbours(rows(90, 6, 0), "l1", "auto")
    search(rows(10, 6, 1), 3)
    assert search.method == "exact" and search.recall(rows(10, 6, 1), 3) == 1.0
    monkeypatch.setattr(neighbours, "VERY_LARGE", 80)
    search(rows(10, 6, 1), 3)
    assert search.method == "hnsw"


@pytest.mark.parametrize(("how", "package"), [("faiss", "faiss-cpu"), ("hnsw", "hnswlib")])
def test_a_missing_library_is_named_with_what_to_do(how, package, monkeypatch):
    monkeypatch.setattr(indexes, f"{how}_installed", lambda: False)
    with pytest.raises(MissingError, match=rf"search = '{how}' needs {package}.*gen-imaging\[fast\]"):
        nearest(rows(3, 2, 0), rows(4, 2, 1), 1, "l2", how)


def test_an_exact_search_imports_no_index_library(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kw):
        assert name not in ("faiss", "hnswlib"), name
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert nearest(rows(3, 2, 0), rows(4, 2, 1), 1)[0].shape == (3, 1)
