"""The Frechet distance against closed forms and against scipy's matrix square root."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from gen_metrics.frechet import extrapolate, frechet_gaussians, frechet_rows


def random_gaussian(dim, seed, rank=None):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(rank or 3 * dim, dim, generator=g, dtype=torch.float64)
    return torch.randn(dim, generator=g, dtype=torch.float64), a.T @ a / len(a)


def test_commuting_covariances_meet_the_closed_form():
    # d^2 = |m1 - m2|^2 + sum (sqrt a - sqrt b)^2 in the common eigenbasis
    g = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(37, 37, generator=g, dtype=torch.float64))
    a, b = torch.rand(2, 37, generator=g, dtype=torch.float64) * 10
    m1, m2 = torch.randn(2, 37, generator=g, dtype=torch.float64)
    exact = float((m1 - m2).square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    found = frechet_gaussians(m1, q @ a.diag() @ q.T, m2, q @ b.diag() @ q.T)
    assert found == pytest.approx(exact, rel=1e-6)


def test_one_dimension_meets_the_closed_form():
    one = lambda m, v: (torch.tensor([m]), torch.tensor([[v]]))
    assert frechet_gaussians(*one(1.0, 4.0), *one(3.0, 9.0)) == pytest.approx(4.0 + 1.0, rel=1e-12)


def test_general_covariances_agree_with_scipy_sqrtm():
    (m1, s1), (m2, s2) = random_gaussian(23, 1), random_gaussian(23, 2)
    root = np.trace(sqrtm(s1.numpy() @ s2.numpy()).real)
    exact = float((m1 - m2).square().sum() + s1.trace() + s2.trace()) - 2 * root
    assert frechet_gaussians(m1, s1, m2, s2) == pytest.approx(exact, rel=1e-6)


def test_distance_is_symmetric_zero_to_itself_and_never_nan_on_singular_covariances():
    (m1, s1), (m2, s2) = random_gaussian(19, 3, rank=5), random_gaussian(19, 4, rank=7)
    there, back = frechet_gaussians(m1, s1, m2, s2), frechet_gaussians(m2, s2, m1, s1)
    assert np.isfinite(there) and there == pytest.approx(back, rel=1e-6)
    assert frechet_gaussians(m1, s1, m1, s1) == pytest.approx(0.0, abs=1e-6)
    zero = torch.zeros(19, 19)
    assert frechet_gaussians(m1, zero, m2, zero) == pytest.approx(float((m1 - m2).square().sum()), rel=1e-12)


@pytest.mark.parametrize("n, m", [(9, 40), (40, 9), (11, 13)])
def test_fewer_rows_than_features_gives_the_distance_of_the_full_covariances(n, m):
    g = torch.Generator().manual_seed(5)
    a = torch.randn(n, 31, generator=g, dtype=torch.float64)
    b = torch.randn(m, 31, generator=g, dtype=torch.float64) * 1.5 + 0.3
    exact = frechet_gaussians(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert frechet_rows(a, b) == pytest.approx(exact, rel=1e-6)


def test_enough_rows_take_the_covariance_route():
    g = torch.Generator().manual_seed(6)
    a, b = torch.randn(50, 7, generator=g), torch.randn(60, 7, generator=g) + 1
    exact = frechet_gaussians(a.double().mean(0), torch.cov(a.double().T), b.double().mean(0), torch.cov(b.double().T))
    assert frechet_rows(a, b) == pytest.approx(exact, rel=1e-9)


def test_one_row_is_refused():
    with pytest.raises(ValueError, match="two rows"):
        frechet_rows(torch.zeros(1, 3), torch.zeros(5, 3))


def test_extrapolation_recovers_a_line_over_one_over_n():
    ns = [10.0, 20.0, 50.0]
    limit, slope = extrapolate(ns, [3.0 + 7.0 / n for n in ns])
    assert (limit, slope) == (pytest.approx(3.0), pytest.approx(7.0))
