"""Colour for any number of channels."""

import math

import pytest
import torch

from gen_gan.augment_colour import colour_map, recolour, turn_across
from gen_gan.augment_geometry import Draws


def draws(n, p, seed=0):
    return Draws(n, p, torch.Generator().manual_seed(seed), torch.device("cpu"), torch.float64)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_nothing_happens_at_probability_zero(channels):
    matrix, offset = colour_map(draws(4, 0.0), channels)
    torch.testing.assert_close(matrix, torch.eye(channels, dtype=torch.float64).expand(4, -1, -1))
    assert not offset.any()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_grey_stays_grey(channels):
    """The luma axis is an eigenvector of everything: equal channels stay equal."""
    matrix, offset = colour_map(draws(50, 1.0), channels)
    grey = recolour(torch.full((50, channels, 2, 3), 0.3, dtype=torch.float64), matrix, offset)
    torch.testing.assert_close(grey, grey[:, :1].expand_as(grey))


def test_one_channel_has_brightness_contrast_and_the_negative():
    matrix, offset = colour_map(draws(4000, 1.0), 1)
    factor = matrix[:, 0, 0]
    assert abs(float((factor < 0).double().mean()) - 0.5) < 0.03
    assert abs(float(factor.abs().log2().std()) - 0.5) < 0.02
    assert abs(float((offset[:, 0] / factor).std()) - 0.2) < 0.01


def test_a_hue_of_three_channels_turns_about_the_luma_axis():
    """Against Rodrigues' formula about (1, 1, 1) / sqrt(3), either way round."""
    g = torch.Generator().manual_seed(0)
    angle = torch.tensor([0.7], dtype=torch.float64)
    got = turn_across(torch.randn(1, 3, 2, generator=g, dtype=torch.float64), angle)[0]
    v = torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
    turn = lambda a: math.cos(a) * torch.eye(3).double() + math.sin(a) * cross + (1 - math.cos(a)) * torch.outer(v, v)
    assert min(float((got - turn(a)).abs().max()) for a in (0.7, -0.7)) < 1e-12


@pytest.mark.parametrize("channels", [3, 4, 7])
def test_a_hue_is_a_rotation_that_keeps_luma(channels):
    g = torch.Generator().manual_seed(1)
    turn = turn_across(
        torch.randn(9, channels, 2, generator=g, dtype=torch.float64), torch.randn(9, generator=g).double()
    )
    eye = torch.eye(channels, dtype=torch.float64).expand(9, -1, -1)
    torch.testing.assert_close(turn @ turn.mT, eye)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(turn.sum(2), torch.ones(9, channels, dtype=torch.float64))


def test_two_channels_differ_by_saturation_only():
    """The difference of the channels is scaled by contrast times saturation, and never flipped."""
    matrix, _ = colour_map(draws(2000, 1.0), 2)
    difference = matrix[:, 0, 0] - matrix[:, 0, 1]
    assert (difference > 0).all()
    assert abs(float(difference.log2().std()) - math.hypot(0.5, 1.0)) < 0.06
