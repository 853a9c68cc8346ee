"""Moments of tiles against numpy's of the whole, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_core.tiling.moments import Moments


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_moments_of_uneven_tiles_are_those_of_the_whole(offset):
    x = (
        torch.randn(1, 6, 3, 10, 11, generator=torch.Generator().manual_seed(0))
        * torch.arange(1, 7)[:, None, None, None]
    )
    x = x + offset
    moments = Moments()
    for part in (x[..., :2, :], x[..., 2:9, :4], x[..., 2:9, 4:], x[..., 9:, :]):
        moments.add(part)
    weight, bias = torch.rand(6) + 0.5, torch.randn(6)
    scale, shift = moments.affine(3, 1e-6, weight, bias)
    truth = x.numpy().astype(np.float64).reshape(3, -1)
    want = (truth - truth.mean(1, keepdims=True)) / np.sqrt(truth.var(1, keepdims=True) + 1e-6)
    want = want.reshape(6, -1) * weight.numpy()[:, None] + bias.numpy()[:, None]
    np.testing.assert_allclose((x * scale + shift).numpy().reshape(6, -1), want, atol=2e-5 if offset else 2e-6)


def test_one_voxel_a_channel_becomes_the_bias():
    moments = Moments()
    moments.add(torch.full((1, 2, 1, 1, 1), 3.0))
    scale, shift = moments.affine(2, 1e-5, None, torch.tensor([0.25, -1.0]))
    assert (3.0 * scale + shift).flatten().tolist() == pytest.approx([0.25, -1.0], abs=1e-4)
