"""Losses and penalties against closed forms on linear networks."""

import math

import pytest
import torch

from gen_gan.regularizers import (
    discriminator_loss,
    due,
    generator_loss,
    mix_styles,
    path_length_penalty,
    path_lengths,
    r1,
)


def test_losses_are_logs_of_probabilities():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, -0.7])
    p = torch.sigmoid
    torch.testing.assert_close(generator_loss(fake), -p(fake).log().mean())
    torch.testing.assert_close(discriminator_loss(real, fake), -(p(real).log().mean() + (1 - p(fake)).log().mean()))


def test_r1_of_a_linear_discriminator_is_half_the_square_of_its_weights():
    a = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    penalty = r1((x * a).sum((1, 2, 3)) + 7, x)
    torch.testing.assert_close(penalty, 0.5 * a.square().sum())
    (gradient,) = torch.autograd.grad(penalty, a)
    torch.testing.assert_close(gradient, a)


def test_r1_of_a_quadratic_discriminator_is_the_mean_over_samples():
    """D(x) = |x|^2 / 2 has gradient x."""
    x = torch.randn(6, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    penalty = r1(0.5 * x.square().sum((1, 2, 3)), x)
    torch.testing.assert_close(penalty, 0.5 * x.square().sum((1, 2, 3)).mean())


def test_path_length_of_a_linear_generator_is_that_of_the_transposed_matrix():
    """G(w) = sum over styles of A_l w_l; the length is sqrt(mean over l of |A_l^T y|^2), y over sqrt(H W)."""
    g = torch.Generator().manual_seed(0)
    b, styles, dim, shape = 5, 3, 4, (2, 6, 7)
    A = torch.randn(styles, math.prod(shape), dim, generator=g, dtype=torch.float64)
    w = torch.randn(b, styles, dim, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.randn(b, *shape, generator=g, dtype=torch.float64)
    images = torch.einsum("lpd,bld->bp", A, w).view(b, *shape)
    want = torch.einsum("lpd,bp->bld", A, y.flatten(1) / math.sqrt(42)).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(path_lengths(images, w, y), want)


def test_an_orthogonal_generator_has_path_length_one_on_average():
    """Columns of norm sqrt(H W) scaled: E |A^T y|^2 = dim for orthonormal A, whatever the direction."""
    g = torch.Generator().manual_seed(0)
    h, dim = 16, 12
    A = torch.linalg.qr(torch.randn(h * h, dim, generator=g, dtype=torch.float64))[0] * h
    w = torch.zeros(4000, 1, dim, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4000, 1, h, h, generator=g, dtype=torch.float64)
    lengths = path_lengths((w[:, 0] @ A.t()).view(4000, 1, h, h), w, y)
    assert abs(float(lengths.square().mean()) - dim) < 0.3


def test_the_penalty_follows_a_running_mean():
    mean, lengths = torch.tensor(1.0), torch.tensor([2.0, 4.0], requires_grad=True)
    penalty = path_length_penalty(lengths, mean, decay=0.25)
    torch.testing.assert_close(mean, torch.tensor(1.5))  # 1 + (3 - 1) / 4
    torch.testing.assert_close(penalty, torch.tensor((0.5**2 + 2.5**2) / 2))
    (gradient,) = torch.autograd.grad(penalty, lengths)
    torch.testing.assert_close(gradient, torch.tensor([0.5, 2.5]))
    for _ in range(60):
        path_length_penalty(lengths.detach(), mean, decay=0.25)
    torch.testing.assert_close(mean, torch.tensor(3.0))


def test_a_lazy_penalty_is_due_each_so_many_steps():
    assert [due(i, 3) for i in range(5)] == [True, False, False, True, False]
    assert not due(0, 0)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_mixed_styles_change_over_once(share):
    first, second = torch.zeros(2000, 6, 2), torch.ones(2000, 6, 2)
    mixed = mix_styles(first, second, share, torch.Generator().manual_seed(0))[:, :, 0]
    assert (mixed[:, 1:] >= mixed[:, :-1]).all() and (mixed[:, 0] == 0).all()
    crossed = mixed.any(1)
    assert abs(float(crossed.float().mean()) - share) < 0.04
    if share == 1:
        places = mixed.sum(1).long().bincount(minlength=6)  # 1..5 styles of the second, equally often
        assert places[0] == 0 and (places[1:] - 400).abs().max() < 80
