"""The kernel distance against the double sum of its definition, and libraries where they are installed."""

import itertools

import pytest
import torch

from gen_metrics.kid import Kid, blocks, kernel_distance
from gen_metrics.metric_options import Kid as Options


def rows(n, seed, shift=0.0, dim=5):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double() + shift


def by_definition(x, y):
    """Binkowski et al. 2018, eq. 4, in three double loops."""
    k = lambda a, b: (float(a @ b) / len(a) + 1.0) ** 3
    within = lambda t: sum(k(a, b) for a, b in itertools.permutations(t, 2)) / (len(t) * (len(t) - 1))
    between = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * between


def test_value_is_the_double_sum_of_the_definition():
    x, y = rows(13, 0), rows(9, 1, 0.3)
    assert kernel_distance(x, y, 4, 100)[0] == pytest.approx(by_definition(x, y), rel=1e-12)


def test_the_jackknife_is_that_of_distances_computed_anew():
    x, y, groups = rows(12, 2), rows(15, 3, 0.5), 6
    value, low, high = kernel_distance(x, y, groups, 100)
    drop = lambda t, g: t[torch.arange(len(t)) % groups != g]
    left = [
        [by_definition(drop(x, g), y) for g in range(groups)],
        [by_definition(x, drop(y, g)) for g in range(groups)],
    ]
    variance = sum(5 / 6 * sum((v - sum(side) / 6) ** 2 for v in side) for side in left)
    assert high - value == pytest.approx(1.959964 * variance**0.5, rel=1e-5) and low < value < high


def test_blocks_are_disjoint_and_their_mean_is_the_score():
    x, y = rows(20, 4), rows(11, 5, 0.2)
    parts = list(zip(blocks(20, 3), blocks(11, 3)))
    assert [i for p, _ in parts for i in range(20)[p]] == list(range(20))
    want = sum(by_definition(x[i], y[j]) for i, j in parts) / 3
    assert kernel_distance(x, y, 4, 8)[0] == pytest.approx(want, rel=1e-12)


def test_it_has_no_bias_where_a_frechet_distance_has_one():
    found = [kernel_distance(rows(12, 2 * i, dim=8), rows(9, 2 * i + 1, dim=8), 1, 100)[0] for i in range(400)]
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / 20
    assert abs(mean) < 3 * error and min(found) < 0  # unbiased: half of them lie under zero


def test_value_equals_that_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = rows(30, 0), rows(30, 1, 0.4)
    assert kernel_distance(x, y, 4, 100)[0] == pytest.approx(float(kid.poly_mmd(x, y)), rel=1e-6)


def test_value_equals_that_of_torch_fidelity():
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = rows(30, 0).numpy(), rows(30, 1, 0.4).numpy()
    want = kid.polynomial_mmd(x, y, 3, None, 1)
    assert kernel_distance(torch.from_numpy(x), torch.from_numpy(y), 4, 100)[0] == pytest.approx(want, rel=1e-6)


def test_scores_carry_floor_interval_and_a_flag_for_few_volumes(context, batches, feed, one):
    result = feed(Kid(Options(), context)).compute()
    got = one(result, "kid", "synthetic", "val")
    assert got.low < got.value < got.high and got.floor is not None and got.n == 22 and got.flag == ""
    metric = Kid(Options(), context)
    metric.update(batches("val", 24)[0], "val")
    metric.update(batches("synthetic", 5)[0], "synthetic")
    few = one(metric.compute(), "kid", "synthetic")
    assert few.flag.startswith("5 synthetic volumes") and few.low is None
