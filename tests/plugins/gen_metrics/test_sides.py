"""Sides of a Frechet distance: subsets, standardizing, and when no distance is given."""

import pytest
import torch

from gen_metrics.frechet import frechet_gaussians, frechet_rows
from gen_metrics.sides import Groups, Planes, Rows, pooled_standardizer, refusal


def tables(volumes, seed, n=5, dim=3):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, dim, generator=g).double() + torch.randn(dim, generator=g) for _ in range(volumes)]


def plain(t, groups=4):
    return Groups(t, groups, torch.zeros(3).double(), torch.ones(3).double())


def test_groups_and_rows_give_the_distance_of_the_same_vectors():
    a, b = tables(9, 0), tables(7, 1)
    assert plain(a).distance(plain(b)) == pytest.approx(frechet_rows(torch.cat(a), torch.cat(b)), rel=1e-9)
    some = torch.cat([a[i] for i in range(9) if i % 4 in (1, 3)])
    assert plain(a).distance(plain(b), [1, 3]) == pytest.approx(frechet_rows(some, torch.cat(b)), rel=1e-9)
    rows = Rows(torch.cat(a))
    assert rows.distance(Rows(torch.cat(b)), [0, 4, 7]) == frechet_rows(torch.cat(a)[[0, 4, 7]], torch.cat(b))


def test_the_first_volumes_are_those_in_front():
    a, b = tables(9, 0), tables(7, 1)
    assert plain(a).first(5).distance(plain(b)) == pytest.approx(plain(a[:5]).distance(plain(b)), rel=1e-12)
    assert sum(plain(a).first(5).volumes) == 5 and plain(a).volumes == [3, 2, 2, 2]


def test_planes_have_the_mean_of_their_distances():
    a, b, c = plain(tables(9, 0)), plain(tables(9, 1)), plain(tables(9, 2))
    both = Planes({"axial": a, "coronal": b}).distance(Planes({"axial": c, "coronal": c}))
    assert both == pytest.approx((a.distance(c) + b.distance(c)) / 2)


def test_standardized_vectors_have_mean_zero_and_sd_one():
    t = [torch.cat((v, torch.ones(5, 1).double()), 1) for v in tables(6, 3)]
    centre, scale = pooled_standardizer(t, "val")
    whole = torch.cat(t)
    assert torch.allclose(centre, whole.mean(0)) and torch.allclose(scale[:3], whole.std(0)[:3]) and scale[3] == 1
    assert pooled_standardizer(t, "none")[1].tolist() == [1.0] * 4


def test_under_an_eighth_of_a_vector_a_feature_there_is_no_distance():
    rows = lambda n, dim: Rows(torch.zeros(n, dim))
    assert "7 feature vectors of synthetic for 64 features" in refusal(
        {"validation": rows(99, 64), "synthetic": rows(7, 64)}
    )
    assert refusal({"synthetic": rows(8, 64)}) == "" and "fewer than two" in refusal({"synthetic": rows(1, 4)})


def test_the_rules_reason_holds():
    # two draws of n from one Gaussian in d dimensions: 2 d (1 - .849 sqrt(n / d)) + 2 d / n; known: 773 at 50 of 512
    g = torch.Generator().manual_seed(0)
    n, d = 50, 512
    a, b = (torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(2))
    found = frechet_rows(a, b)
    assert found == pytest.approx(773, rel=0.02)
    assert found == pytest.approx(2 * d * (1 - 0.849 * (n / d) ** 0.5) + 2 * d / n, rel=0.02)
    assert frechet_gaussians(torch.zeros(d), torch.eye(d), torch.zeros(d), torch.eye(d)) == pytest.approx(0, abs=1e-9)
