"""Halving and doubling: against torch's own averages, against diffusers' smoothing kernels, odd sizes."""

import pytest
import torch
import torch.nn.functional as F

from gen_diffusion.resampling import double, halve

diffusers = pytest.importorskip("diffusers")


def volume(*size, seed=0):
    return torch.randn(2, *size, 3, generator=torch.Generator().manual_seed(seed))


def test_averages_are_those_of_torch_and_repeats_undo_them_on_flat_volumes():
    h = volume(4, 6, 8)
    want = F.avg_pool3d(h.permute(0, 4, 1, 2, 3), 2).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(halve(h, (2, 2, 2), False), want)
    up = double(want, (4, 6, 8), False)
    torch.testing.assert_close(up, F.interpolate(want.permute(0, 4, 1, 2, 3), scale_factor=2).permute(0, 2, 3, 4, 1))


def test_the_smoothing_kernel_is_that_of_diffusers_in_the_plane():
    from diffusers.models.downsampling import downsample_2d
    from diffusers.models.upsampling import upsample_2d

    h = volume(1, 6, 10)
    x = h[:, 0].permute(0, 3, 1, 2)
    want = downsample_2d(x, kernel=(1, 3, 3, 1)).permute(0, 2, 3, 1)
    torch.testing.assert_close(halve(h, (1, 2, 2), True)[:, 0], want)
    want = upsample_2d(x, kernel=(1, 3, 3, 1)).permute(0, 2, 3, 1)
    torch.testing.assert_close(double(h, (1, 12, 20), True)[:, 0], want)


@pytest.mark.parametrize("fir", [False, True])
def test_depth_is_treated_as_the_plane_is(fir):
    h = volume(6, 4, 1)
    turned = h.transpose(1, 2)
    torch.testing.assert_close(halve(h, (2, 1, 1), fir), halve(turned, (1, 2, 1), fir).transpose(1, 2))
    torch.testing.assert_close(double(h, (12, 4, 1), fir), double(turned, (4, 12, 1), fir).transpose(1, 2))


@pytest.mark.parametrize("fir", [False, True])
def test_odd_sizes_round_up_and_come_back(fir):
    h = volume(5, 7, 3)
    small = halve(h, (2, 2, 2), fir)
    assert small.shape[1:4] == (3, 4, 2)
    assert double(small, (5, 7, 3), fir).shape == h.shape
    last = halve(torch.ones(1, 1, 5, 1, 1), (1, 2, 1), fir)[0, 0, -1, 0, 0]
    assert last == pytest.approx(7 / 8 if fir else 1.0)  # beyond the edge the kernel finds zeros
    assert halve(h, (1, 1, 1), fir) is h
