"""SSIM and MS-SSIM against pytorch-msssim, against a float64 loop, and on axes where peers fail."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as peer_ms_ssim
from pytorch_msssim import ssim as peer_ssim

import gen_metrics.similarity as similarity
from gen_metrics.similarity import WEIGHTS, blur, ms_ssim, scale_count, ssim


def pair(*shape, seed=0, noise=0.3):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=g)
    for axis in range(-min(3, len(shape)), 0):  # smooth, so that coarse scales are not empty
        x = (x + x.roll(1, axis) + x.roll(2, axis)) / 3
    y = (x + noise * torch.randn(shape, generator=g)).clamp(0, 1)
    return 2 * x, 2 * y


def reference_terms(x, y, window, sigma, data_range):
    """(SSIM, contrast) by a plain float64 loop over all windows of two (H, W) images."""
    at = np.arange(window) - (window - 1) / 2
    taps = np.exp(-0.5 * (at / sigma) ** 2)
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    full, cs = [], []
    for i in range(x.shape[0] - window + 1):
        for j in range(x.shape[1] - window + 1):
            a, b = x[i : i + window, j : j + window], y[i : i + window, j : j + window]
            ma, mb = (kernel * a).sum(), (kernel * b).sum()
            va, vb = (kernel * (a - ma) ** 2).sum(), (kernel * (b - mb) ** 2).sum()
            cov = (kernel * (a - ma) * (b - mb)).sum()
            cs.append((2 * cov + c2) / (va + vb + c2))
            full.append(cs[-1] * (2 * ma * mb + c1) / (ma**2 + mb**2 + c1))
    return np.mean(full), np.mean(cs)


def test_ssim_agrees_with_a_float64_loop():
    x, y = pair(17, 23)
    exact, _ = reference_terms(x.double().numpy(), y.double().numpy(), 11, 1.5, 2.0)
    assert float(ssim(x, y)) == pytest.approx(exact, abs=1e-5)


def test_ssim_agrees_with_pytorch_msssim_in_two_and_three_dimensions():
    x, y = pair(2, 3, 40, 37)
    assert torch.allclose(ssim(x, y).mean(1), peer_ssim(x, y, data_range=2.0, size_average=False), atol=1e-4)
    x, y = pair(2, 1, 13, 19, 24)
    ours = ssim(x, y, dims=3).mean(1)
    assert torch.allclose(ours, peer_ssim(x, y, data_range=2.0, size_average=False), atol=1e-4)


def test_ms_ssim_agrees_with_pytorch_msssim_in_two_dimensions():
    x, y = pair(2, 3, 176, 192)
    peer = peer_ms_ssim(x, y, data_range=2.0, size_average=False)
    assert torch.allclose(ms_ssim(x, y, dims=2).mean(1), peer, atol=1e-4)


def test_ms_ssim_agrees_with_pytorch_msssim_in_three_dimensions():
    # a window of 3 lets the peer do five scales on small axes
    x, y = pair(2, 1, 48, 64, 80)
    peer = peer_ms_ssim(x, y, data_range=2.0, size_average=False, win_size=3)
    assert torch.allclose(ms_ssim(x, y, window=3, dims=3).mean(1), peer, atol=1e-4)


def test_the_last_exponent_is_applied_once_and_the_peers_defect_would_be_seen():
    x, y = (v[0].double() for v in pair(1, 24, 28, noise=0.15))
    terms, a, b = [], x, y
    for _ in range(2):
        terms.append(reference_terms(a.numpy(), b.numpy(), 11, 1.5, 2.0))
        a, b = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (a, b))
    w = np.asarray(WEIGHTS[:2]) / sum(WEIGHTS[:2])
    right = terms[0][1] ** w[0] * terms[1][0] ** w[1]
    defect = terms[0][1] ** w[0] * terms[1][0] ** (2 * w[1])  # the last exponent once a scale
    found = float(ms_ssim(x, y, dims=2, scales=2))
    assert found == pytest.approx(right, abs=1e-9)
    assert abs(found - defect) > 1e-3


def test_a_depth_of_one_is_the_two_dimensional_value():
    x, y = pair(2, 1, 33, 41)
    assert torch.allclose(ms_ssim(x, y, dims=3), ms_ssim(x[:, 0], y[:, 0], dims=2), atol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 5, 16])
def test_repeated_slices_have_the_value_of_one_slice(depth):
    # the window cut to the axis is renormalized, so a constant axis changes nothing
    x, y = pair(1, 33, 40)
    deep = lambda v: v[:, None].expand(-1, depth, -1, -1).contiguous()
    assert torch.allclose(ms_ssim(deep(x), deep(y), dims=3), ms_ssim(x, y, dims=2), atol=1e-5)


def test_scales_stop_before_a_side_falls_under_four():
    assert [scale_count(n, n + 3) for n in (3, 7, 8, 24, 64, 672)] == [1, 1, 2, 3, 5, 5]
    x, y = pair(1, 5, 9, 7)
    assert 0 <= float(ms_ssim(x, y)) <= 1


def test_equal_volumes_give_one_and_inverted_ones_count_as_zero():
    x, _ = pair(1, 6, 32, 40)
    assert float(ms_ssim(x, x)) == pytest.approx(1.0, abs=1e-5)
    assert float(ms_ssim(x, 2 - x)) == pytest.approx(0.0, abs=0.05)
    assert torch.isfinite(ms_ssim(x, 2 - x)).all()


def test_blocks_on_long_axes_change_nothing(monkeypatch):
    x, _ = pair(2, 3, 41, 53)
    whole = blur(x)
    monkeypatch.setattr(similarity, "_BLOCK", 8)
    assert torch.allclose(blur(x), whole, atol=1e-6)
    assert whole.shape == (2, 1, 31, 43)


def test_gradients_flow_and_the_value_is_that_without_them():
    x, y = pair(1, 5, 16, 20)
    leaf = x.clone().requires_grad_()
    value = ms_ssim(leaf, y)
    value.sum().backward()
    assert torch.allclose(value.detach(), ms_ssim(x, y), atol=1e-6) and float(leaf.grad.abs().sum()) > 0
