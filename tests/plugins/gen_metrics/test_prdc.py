"""Precision, recall, density and coverage against the papers' formulas in plain numpy, and the package `prdc`."""

import numpy as np
import pytest
import torch

import gen_metrics.prdc as module
from gen_metrics.metric_options import Prdc as Options
from gen_metrics.prdc import NAMES, Prdc, prdc


def rows(n, seed, shift=0.0, dim=4):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).double() + shift


def by_formula(real, fake, k):
    """Kynkaanniemi et al. 2019, eqs. 1-3, and Naeem et al. 2020, eqs. 3-4, one indicator after the other."""
    distance = lambda a, b: float(np.sqrt(((a - b) ** 2).sum()))
    radius = lambda t, i: sorted(distance(t[i], t[j]) for j in range(len(t)) if j != i)[k - 1]
    r_real, r_fake = ([radius(t, i) for i in range(len(t))] for t in (real, fake))
    inside = np.array([[distance(x, y) <= r for y in fake] for x, r in zip(real, r_real)])  # ball of x holds y
    return {
        "precision": float(np.mean([inside[:, j].any() for j in range(len(fake))])),
        "recall": float(np.mean([any(distance(x, y) <= r for y, r in zip(fake, r_fake)) for x in real])),
        "density": float(inside.sum() / (k * len(fake))),
        "coverage": float(np.mean([inside[i].any() for i in range(len(real))])),
    }


@pytest.mark.parametrize("n, m, k, shift", [(17, 12, 3, 0.0), (11, 23, 5, 0.7), (9, 8, 1, 2.0)])
def test_figures_are_those_of_the_papers_formulas(n, m, k, shift):
    real, fake = rows(n, n), rows(m, m + 100, shift)
    assert prdc(real, fake, k)[0] == pytest.approx(by_formula(real.numpy(), fake.numpy(), k), abs=1e-12)


def test_figures_without_a_group_are_those_of_the_rows_that_are_left():
    real, fake, k, groups = rows(19, 0), rows(16, 1, 0.4), 3, 5
    _, (without_real, without_fake) = prdc(real, fake, k, groups)
    drop = lambda t, g: t[torch.arange(len(t)) % groups != g].numpy()
    for g in range(groups):
        assert without_real[g] == pytest.approx(by_formula(drop(real, g), fake.numpy(), k), abs=1e-12)
        assert without_fake[g] == pytest.approx(by_formula(real.numpy(), drop(fake, g), k), abs=1e-12)


def test_chunks_do_not_change_the_figures(monkeypatch):
    real, fake = rows(23, 0), rows(31, 1, 0.5)
    whole = prdc(real, fake, 5, 4)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert prdc(real, fake, 5, 4) == whole


def test_figures_equal_those_of_the_package():
    package = pytest.importorskip("prdc")
    real, fake = rows(60, 0), rows(50, 1, 0.5)
    want = package.compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    assert prdc(real, fake, 5)[0] == pytest.approx(want, abs=1e-9)


def test_copies_lie_inside_and_a_dropped_half_is_not_covered():
    real = torch.cat((rows(40, 0), rows(40, 1, 30.0)))
    copies, half = prdc(real, real.clone(), 5)[0], prdc(real, rows(80, 2), 5)[0]
    assert copies["precision"] == copies["recall"] == copies["coverage"] == 1.0
    assert half["precision"] > 0.8 and half["recall"] < 0.55 and half["coverage"] < 0.55


def test_coverage_of_equal_distributions_is_as_expected():
    # Naeem et al. 2020, section 4: E coverage = 1 - prod_{i < k} (n - 1 - i) / (n + m - 1 - i), whatever the density
    n, m, k = 40, 25, 3
    found = [prdc(rows(n, 2 * i), rows(m, 2 * i + 1), k)[0]["coverage"] for i in range(150)]
    want = 1 - np.prod([(n - 1 - i) / (n + m - 1 - i) for i in range(k)])
    assert np.mean(found) == pytest.approx(want, abs=0.02)


def test_scores_carry_floors_intervals_and_flags(context, batches, feed, one):
    result = feed(Prdc(Options(k=3), context)).compute()
    for name in NAMES:
        got = one(result, name, "synthetic", "val")
        assert got.low <= got.value <= got.high and got.floor is not None and "under 20 k" in got.flag
    assert one(result, "precision", "reconstruction").value > 0.7 and result.protocol["k"] == 3
    on_train = feed(Prdc(Options(k=3, real="train"), context)).compute()
    assert one(on_train, "coverage", "synthetic", "train").floor is not None
    assert one(on_train, "coverage", "val", "train").n == 24
    few = Prdc(Options(), context)
    few.update(batches("val", 24)[0], "val")
    few.update(batches("synthetic", 5)[0], "synthetic")
    answer = few.compute()
    assert answer.values == [] and answer.protocol["refused"] == {"synthetic": "5 volumes for k = 5"}
