"""The fused norm against group_norm, scale, shift, silu in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from gen_diffusion.modulated_norm import modulated_norm, modulated_norm_silu


def plain(x, gain, shift, groups, eps=1e-5, silu=True):
    y = F.group_norm(x.transpose(1, 2), groups, eps=eps).transpose(1, 2)
    y = y * gain[:, None] + shift[:, None]
    return F.silu(y) if silu else y


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return 3 * torch.randn(3, 10, 24) + 2, torch.randn(3, 24), torch.randn(3, 24), torch.randn(3, 10, 24)


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_values_and_all_gradients_equal_the_plain_formulation(tensors, silu, eps):
    *inputs, weight = tensors
    norm = modulated_norm_silu if silu else modulated_norm
    ours = [a.clone().requires_grad_() for a in inputs]
    truth = [a.double().requires_grad_() for a in inputs]
    y, want = norm(*ours, 8, eps), plain(*truth, 8, eps, silu)
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-6)
    (y * weight).sum().backward()
    (want * weight.double()).sum().backward()
    for a, b in zip(ours, truth):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-5)


def test_a_large_mean_does_not_cost_the_variance_its_digits(tensors):
    x, gain, shift, _ = tensors
    x = x + 3000.0
    truth = plain(x.double(), gain.double(), shift.double(), 8)
    torch.testing.assert_close(modulated_norm_silu(x, gain, shift, 8).double(), truth, rtol=5e-4, atol=5e-4)


def test_half_precision_input_has_float32_statistics(tensors):
    x, gain, shift, _ = tensors
    x = x.bfloat16()
    y = modulated_norm_silu(x, gain, shift, 8)
    assert y.dtype == torch.bfloat16
    truth = plain(x.double(), gain.double(), shift.double(), 8)
    assert (y.double() - truth).abs().max() <= 2**-8 * truth.abs().max()  # one rounding, at the end
    x = x.clone().requires_grad_()
    modulated_norm_silu(x, gain, shift, 8).float().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.isfinite().all()


def test_a_constant_input_gives_the_shift():
    y = modulated_norm_silu(torch.full((2, 5, 16), 7.0), torch.ones(2, 16), torch.full((2, 16), 0.5), 8)
    torch.testing.assert_close(y, F.silu(torch.full((2, 5, 16), 0.5)))
