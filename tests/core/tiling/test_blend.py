"""Blended tiles of networks whose result is known everywhere."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F

from gen_core.tiling.blend import run_blended, starts


def test_tiles_begin_on_multiples_of_the_stride_and_reach_the_end():
    for n, tile, overlap, step in [(40, 16, 8, 4), (44, 16, 4, 4), (16, 16, 8, 4), (37, 12, 6, 2)]:
        found = starts(n, tile, overlap, step)
        assert all(a % step == 0 for a in found)
        assert found[0] == 0
        assert found[-1] + tile >= n
        assert all(b <= a + tile for a, b in zip(found, found[1:]))


def test_a_network_without_neighbourhood_is_met_exactly():
    x = torch.randn(1, 1, 5, 22, 31)
    pooled = lambda t: F.avg_pool3d(t, (1, 2, 2), ceil_mode=True)
    made = run_blended(
        pooled, x, (5, 8, 8), (0, 4, 4), (1, 2, 2), [Fraction(1), Fraction(1, 2), Fraction(1, 2)], 1, (5, 11, 16)
    )
    torch.testing.assert_close(made, pooled(x), rtol=0, atol=1e-6)


def test_what_grows_is_cut_to_the_wanted_size():
    x = torch.randn(1, 2, 3, 7, 6)
    grown = lambda t: F.interpolate(t, scale_factor=(1.0, 2.0, 2.0), mode="nearest")
    made = run_blended(
        grown, x, (3, 4, 4), (0, 2, 2), (1, 1, 1), [Fraction(1), Fraction(2), Fraction(2)], 2, (3, 13, 11)
    )
    torch.testing.assert_close(made, grown(x)[..., :13, :11], rtol=0, atol=1e-6)
