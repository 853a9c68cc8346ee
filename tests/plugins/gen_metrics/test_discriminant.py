"""The learned distance: closed forms, scikit-learn's directions, and few volumes."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from gen_metrics import discriminant
from gen_metrics.discriminant import learn


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_direction_that_altering_moves_counts_little():
    rows = normal(4000, 2, 0)
    moved = normal(4000, 2, 1) * torch.tensor([1.0, 0.05])  # altering moves the first feature as far as volumes differ
    found = learn(rows, moved)
    step = lambda v: float((found(torch.tensor([v]).double()) - found(torch.zeros(1, 2).double())).norm())
    # e = 1 and 400: weights e / (e + 3), lengths 1 / sd of the movement
    assert step([1.0, 0.0]) == pytest.approx(1 / 4, rel=0.1)
    assert step([0.0, 1.0]) == pytest.approx(400 / 403 / 0.05, rel=0.3)


def test_its_first_direction_is_that_of_discriminant_analysis():
    centres = normal(60, 4, 2) * torch.tensor([3.0, 1.0, 0.5, 0.2])
    mix = normal(4, 4, 4)
    noise = (normal(600, 4, 3) * torch.tensor([1.0, 0.3, 0.8, 0.5])) @ mix.T
    labels = torch.arange(60).repeat_interleave(10)
    x = centres[labels] + noise
    lda = LinearDiscriminantAnalysis(solver="eigen", n_components=1).fit(x.numpy(), labels.numpy())
    want = torch.from_numpy(lda.scalings_[:, 0])
    found = learn(centres, noise).matrix
    first = found[:, found.norm(dim=0).argmax()] if found.shape[1] == 1 else found[:, -1]
    assert abs(float(torch.cosine_similarity(first, want, dim=0))) > 0.98


def test_distances_do_not_depend_on_units_when_nothing_is_floored(monkeypatch):
    monkeypatch.setattr(discriminant, "SHRINK", 0.0)
    rows, moved, unit = normal(200, 3, 5), 0.3 * normal(300, 3, 6), torch.tensor([1.0, 3.0, 0.5]).double()
    plain = learn(rows, moved)(rows)
    scaled = learn(rows * unit, moved * unit)(rows * unit)
    assert torch.allclose(torch.cdist(plain, plain), torch.cdist(scaled, scaled), rtol=1e-4, atol=1e-4)


def test_few_volumes_and_constant_features_give_finite_distances():
    for n, d in ((1, 3), (2, 3), (9, 40)):
        rows = normal(n, d, 0)
        rows[:, 0] = 5.0
        assert learn(rows, torch.zeros(2, d).double())(rows).isfinite().all()
        assert learn(rows, normal(5, d, 1))(rows).isfinite().all()
