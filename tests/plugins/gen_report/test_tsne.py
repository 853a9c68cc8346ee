"""t-SNE against scikit-learn's affinities, and by what it must do: keep neighbours together."""

import numpy as np
import pytest

from gen_report.figures_clusters import kmeans, nearest
from gen_report.tsne import affinities, tsne


def groups(n=20, seed=0):
    g = np.random.default_rng(seed)
    centres = 8 * np.eye(3, 7)
    return np.concatenate([c + g.standard_normal((n, 7)) for c in centres]), np.repeat(np.arange(3), n)


def test_affinities_are_those_of_scikit_learn():
    manifold = pytest.importorskip("sklearn.manifold._t_sne")
    from scipy.spatial.distance import pdist, squareform

    x, _ = groups()
    expected = squareform(manifold._joint_probabilities(squareform(pdist(x, "sqeuclidean")), 12.0, 0))
    np.testing.assert_allclose(affinities(x, 12.0), expected, rtol=2e-3, atol=1e-8)


def test_groups_stay_apart_and_the_picture_is_the_same_every_time():
    x, label = groups()
    y = tsne(x, 10.0)
    assert y.shape == (60, 2) and np.isfinite(y).all() and np.array_equal(y, tsne(x, 10.0))
    distance = np.linalg.norm(y[:, None] - y[None], axis=-1) + np.where(np.eye(60), np.inf, 0)
    assert (label[distance.argmin(1)] == label).all()


def test_neighbourhoods_are_kept_as_well_as_by_scikit_learn():
    manifold = pytest.importorskip("sklearn.manifold")
    x = np.random.default_rng(1).standard_normal((90, 6)) @ np.diag([4, 3, 2, 0.5, 0.3, 0.1])
    theirs = manifold.TSNE(perplexity=20, init="pca", random_state=0).fit_transform(x)
    ours = manifold.trustworthiness(x, tsne(x, 20.0), n_neighbors=8)
    assert ours > manifold.trustworthiness(x, theirs, n_neighbors=8) - 0.02


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_few_points_are_no_error(n):
    assert np.isfinite(tsne(np.random.default_rng(0).standard_normal((n, 5)))).all()


def test_equal_points_are_no_error():
    assert np.isfinite(tsne(np.ones((9, 4)))).all()


def test_clusters_are_found():
    x, label = groups()
    found = nearest(x, kmeans(x, 3))
    assert all(len(set(found[label == k])) == 1 for k in range(3)) and len(set(found)) == 3
