"""The fused norm against group_norm, scale, shift, silu in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from gen_diffusion import modulated_norm as modulated_norm_
from gen_diffusion.modulated_norm import modulated_norm, modulated_norm_silu

FOR_A_GPU = ("_forward", "_backward")


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


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_formulas_for_a_gpu_are_the_same_and_a_compiler_can_follow_them(tensors, silu, dtype):
    """Traced whole, forwards and backwards; run on the CPU against float64."""
    x, gain, shift, weight = tensors
    x, grad = x.to(dtype), weight.to(dtype)
    forward, backward = (
        torch.compile(f, fullgraph=True, backend="aot_eager") for f in (getattr(modulated_norm_, n) for n in FOR_A_GPU)
    )
    y, mean, rstd = forward(x, gain, shift, 8, 1e-5, silu)
    got = backward(grad, x, mean, rstd, gain, shift, 8, silu)
    truth = [a.double().requires_grad_() for a in (x, gain, shift)]
    want = plain(*truth, 8, 1e-5, silu)
    want.backward(grad.double())
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 2**-7}
    assert y.dtype == got[0].dtype == dtype and got[1].dtype == torch.float32
    torch.testing.assert_close(y.double(), want.detach(), **close)
    for a, b in zip(got, truth):
        torch.testing.assert_close(a.double(), b.grad, **close)
