"""Clamping of z_0 while sampling."""

import torch

from gen_core.condition import Conditions
from gen_core.denoising import clamped, guided, thresholded


class Path:
    """alpha = cos, sigma = sin of t pi / 2."""

    def alpha(self, t):
        return (t * torch.pi / 2).cos()

    def sigma(self, t):
        return (t * torch.pi / 2).sin()


def test_z_0_is_clamped_and_eps_follows():
    z, t = torch.randn(3, 2, 1, 4, 5), torch.tensor([0.2, 0.6, 1.0])
    wild = lambda z, t: (7 * z, z)
    z_0, eps = clamped(wild, Path(), 1.5)(z, t)
    assert z_0.abs().max() == 1.5
    alpha, sigma = (f(t.double()).float().view(3, 1, 1, 1, 1) for f in (Path().alpha, Path().sigma))
    torch.testing.assert_close(alpha * z_0 + sigma * eps, z, rtol=1e-5, atol=1e-5)


def test_values_inside_the_bound_pass_unchanged_and_zero_switches_off():
    z, t = torch.rand(2, 2, 1, 4, 5), torch.tensor([0.3, 0.9])
    exact = lambda z, t: (z, z)
    assert torch.equal(clamped(exact, Path(), 1.0)(z, t)[0], z)
    assert clamped(exact, Path(), 0.0) is exact


def test_at_the_data_eps_is_left_as_it_is():
    z = 3 * torch.ones(1, 2, 1, 4, 5)
    z_0, eps = clamped(lambda z, t: (z, z / 2), Path(), 1.0)(z, torch.zeros(1))
    assert z_0.max() == 1 and torch.equal(eps, z / 2)


def test_guidance_extrapolates_from_what_is_not_known_to_what_is():
    told = []

    def denoise(z, t, cond):
        told.append(cond.present["age"].tolist())
        shift = cond.values["age"].view(-1, 1, 1, 1, 1) + 10.0 * cond.present["age"].view(-1, 1, 1, 1, 1)
        return z + shift, z - shift

    z, t = torch.randn(2, 1, 2, 3, 4), torch.tensor([0.5, 0.5])
    cond = Conditions({"age": torch.tensor([1.0, 2.0])}, {"age": torch.tensor([True, True])})
    shift = torch.tensor([11.0, 12.0]).view(2, 1, 1, 1, 1)
    for w in (0.0, 1.0, 2.5):
        z_0, eps = guided(denoise, cond, w)(z, t)
        torch.testing.assert_close(z_0, z + w * shift)
        torch.testing.assert_close(eps, z - w * shift)
    assert told == [[False, False], [True, True], [True, True, False, False]]
    outside = guided(denoise, cond, 2.5, (0.0, 0.4))(z, t)[0]
    torch.testing.assert_close(outside, z + shift)


def test_guidance_holds_for_the_samples_inside_the_interval_alone():
    def denoise(z, t, cond):
        known = cond.present["age"].view(-1, 1, 1, 1, 1).float()
        return z + known, z - known

    z = torch.randn(3, 1, 2, 4, 5)
    cond = Conditions({"age": torch.ones(3)}, {"age": torch.ones(3, dtype=torch.bool)})
    for w in (0.0, 2.5):
        z_0, eps = guided(denoise, cond, w, (0.2, 0.5))(z, torch.tensor([0.1, 0.3, 0.6]))
        by = torch.tensor([1.0, w, 1.0]).view(3, 1, 1, 1, 1)
        torch.testing.assert_close(z_0, z + by)
        torch.testing.assert_close(eps, z - by)


def test_dynamic_thresholding_scales_each_sample_by_its_own_quantile():
    z, t = torch.randn(3, 2, 1, 4, 5), torch.tensor([0.2, 0.6, 0.9])
    size = torch.tensor([0.3, 2.0, 5.0]).view(3, 1, 1, 1, 1)
    wild = torch.linspace(-1, 1, 40).view(1, 2, 1, 4, 5) * size
    z_0, eps = thresholded(lambda z, t: (wild, z), Path(), 0.9)(z, t)
    torch.testing.assert_close(z_0[0], wild[0])  # inside the bound
    for i in (1, 2):
        s = wild[i].abs().flatten().sort().values[35].item()  # the 36th of 40
        torch.testing.assert_close(z_0[i], wild[i].clamp(-s, s) / s)
    alpha, sigma = (f(t.double()).float().view(3, 1, 1, 1, 1) for f in (Path().alpha, Path().sigma))
    torch.testing.assert_close(alpha * z_0 + sigma * eps, z, rtol=1e-5, atol=1e-5)


def test_a_share_of_zero_switches_thresholding_off():
    exact = lambda z, t: (z, z)
    assert thresholded(exact, Path(), 0.0) is exact
