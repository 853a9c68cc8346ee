"""Held against torch.cdist in float64: the code found is a nearest one, whatever the scale and the autocast."""

import pytest
import torch

from gen_codecs.nearest import BLOCK, ROWS, nearest


def far(v, codebook, idx):
    """By how much each chosen code is farther than the nearest one, relative to the nearest distance."""
    d = torch.cdist(v.double(), codebook.double())
    least = d.min(1).values
    return ((d.gather(1, idx[:, None])[:, 0] - least) / least.clamp_min(1e-12)).max().item()


@pytest.mark.parametrize("n", [1, 5, ROWS[1] - 1, ROWS[1], 2 * ROWS[1] + 3])
def test_the_code_found_is_the_nearest_one(n):
    g = torch.Generator().manual_seed(n)
    v, codebook = torch.randn(n, 6, generator=g), torch.randn(37, 6, generator=g)
    idx = nearest(v, codebook)
    assert idx.dtype == torch.int64 and idx.shape == (n,)
    assert torch.equal(idx, torch.cdist(v.double(), codebook.double()).argmin(1))


@pytest.mark.parametrize("k", [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7, 20_000])
def test_any_number_of_codes_is_searched_whole(k):
    g = torch.Generator().manual_seed(k)
    v, codebook = torch.randn(150, 4, generator=g), torch.randn(k, 4, generator=g)
    assert far(v, codebook, nearest(v, codebook)) < 1e-5
    assert torch.equal(nearest(codebook[-9:], codebook), torch.arange(k - 9, k))


def test_of_equal_codes_the_first_is_taken():
    codebook = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).repeat(2 * BLOCK, 1)
    assert torch.equal(nearest(codebook, codebook), torch.arange(len(codebook)) % 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_vectors_that_are_not_finite_get_some_code_and_leave_the_others_alone(value):
    g = torch.Generator().manual_seed(3)
    v, codebook = torch.randn(6, 3, generator=g), torch.randn(10, 3, generator=g)
    want = nearest(v, codebook)
    v[2, 1] = value
    idx = nearest(v, codebook)
    assert 0 <= idx[2] < 10
    assert torch.equal(idx[[0, 1, 3, 4, 5]], want[[0, 1, 3, 4, 5]])


def test_each_code_is_nearest_to_itself():
    codebook = torch.randn(19, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nearest(codebook, codebook), torch.arange(19))


def test_vectors_far_from_the_origin_find_their_code():
    g = torch.Generator().manual_seed(1)
    v, codebook = 1000 + torch.randn(500, 4, generator=g), 1000 + torch.randn(64, 4, generator=g)
    assert far(v, codebook, nearest(v, codebook)) < 1e-3
    # the plain expansion, about the origin, is wrong here
    plain = (v.square().sum(1, keepdim=True) - 2 * v @ codebook.T + codebook.square().sum(1)).argmin(1)
    assert far(v, codebook, plain) > 0.1


def test_autocast_does_not_reach_the_lookup():
    g = torch.Generator().manual_seed(2)
    v, codebook = torch.randn(800, 8, generator=g), torch.randn(256, 8, generator=g)
    with torch.autocast("cpu", torch.bfloat16):
        idx = nearest(v, codebook)
        coarse = (v @ codebook.T - 0.5 * codebook.square().sum(1)).argmax(1)
    assert torch.equal(idx, nearest(v, codebook))
    assert not torch.equal(idx, coarse)


def test_it_makes_no_gradient_and_takes_the_meta_device():
    v = torch.randn(5, 3, requires_grad=True)
    assert not nearest(v, torch.randn(4, 3)).requires_grad
    assert nearest(v.detach().to("meta"), torch.empty(4, 3, device="meta")).shape == (5,)


def test_one_code_is_everyones():
    assert nearest(torch.randn(7, 2), torch.ones(1, 2)).tolist() == [0] * 7
