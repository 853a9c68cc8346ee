"""Shrunk covariances: OAS by its published formula, regular results, nothing done to what is regular."""

import numpy as np
import pytest
import torch

from gen_metrics.shrinkage import CONDITION, is_regular, oas_weight, shrunk


def sample_covariance(n, p, seed=0):
    rows = torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cov((rows * torch.linspace(0.5, 3.0, p)).T)


def test_the_weight_is_eq_23_of_the_paper():
    s, n, p = sample_covariance(12, 7).numpy(), 12, 7
    top = (1 - 2 / p) * np.trace(s @ s) + np.trace(s) ** 2
    low = (n + 1 - 2 / p) * (np.trace(s @ s) - np.trace(s) ** 2 / p)
    assert oas_weight(torch.from_numpy(s), n) == pytest.approx(min(1.0, top / low), rel=1e-12)


def test_shrinking_brings_few_rows_nearer_to_the_truth():
    truth = torch.diag(torch.linspace(0.5, 3.0, 20).double() ** 2)
    errors = [
        [(c - truth).norm() for c in (s, shrunk(s, 15)[0])] for s in (sample_covariance(15, 20, k) for k in range(8))
    ]
    plain, better = torch.tensor(errors).mean(0)
    assert better < 0.8 * plain


def test_fewer_rows_than_bands_become_regular():
    s = sample_covariance(5, 9)
    assert not is_regular(s)
    found, weight = shrunk(s, 5)
    assert is_regular(found) and 0 < weight < 1
    assert float(found.trace()) == pytest.approx(float(s.trace()))
    torch.linalg.cholesky(found)


def test_a_band_that_never_varies_becomes_regular_however_many_rows_there_are():
    s = sample_covariance(5000, 6)
    s[2], s[:, 2] = 0.0, 0.0
    found, weight = shrunk(s, 10**9)
    values = torch.linalg.eigvalsh(found)
    assert is_regular(found) and weight < 1e-6
    assert float(values[-1] / values[0]) == pytest.approx(CONDITION, rel=0.01)


def test_nothing_but_zeros_is_regular_afterwards():
    assert is_regular(shrunk(torch.zeros(4, 4, dtype=torch.float64), 3)[0])
