"""Which inputs an operation needs, asked of torch itself: the inputs whose change changes the outputs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gen_core.tiling.windows import Gather, Repeat, Slide, Spread, clipped, grid, hull, voxels


def touched(operation, n, start, stop):
    """The inputs of n that the outputs [start, stop) depend on, as (first, last + 1)."""
    x = torch.ones(1, 1, n, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(operation(x)[0, 0, start:stop].sum(), x)
    found = grad[0, 0].nonzero()[:, 0].tolist()
    return found[0], found[-1] + 1


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 1, 1), (4, 2, 1), (8, 4, 2), (3, 2, 0), (1, 1, 0)])
def test_a_convolution_needs_what_its_outputs_depend_on(kernel, stride, pad):
    window, weight = Slide(kernel, stride, pad), torch.rand(1, 1, kernel, dtype=torch.float64) + 0.1
    convolution = lambda x: F.conv1d(x, weight, stride=stride, padding=pad)
    for start, stop in [(0, 1), (1, 3), (2, 5)]:
        assert clipped(window.needs(start, stop), 24) == touched(convolution, 24, start, stop)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2), (8, 4)])
def test_a_transposed_convolution_needs_what_its_outputs_depend_on(kernel, stride):
    pad = (kernel - stride) // 2
    window, weight = Spread(kernel, stride, pad), torch.rand(1, 1, kernel, dtype=torch.float64) + 0.1
    convolution = lambda x: F.conv_transpose1d(x, weight, stride=stride, padding=pad)
    for start, stop in [(0, 1), (3, 4), (5, 11), (7 * stride - 1, 7 * stride)]:
        assert clipped(window.needs(start, stop), 7) == touched(convolution, 7, start, stop)


def test_linear_upsampling_needs_no_more_than_its_window():
    window = Repeat(4, reach=1)
    upsample = lambda x: F.interpolate(x, scale_factor=4.0, mode="linear", align_corners=False)
    for start, stop in [(0, 1), (5, 6), (7, 13), (27, 28)]:
        first, last = touched(upsample, 7, start, stop)
        a, b = clipped(window.needs(start, stop), 7)
        assert a <= first
        assert last <= b


def test_repeated_and_gathered_voxels_need_their_own_cells():
    assert Repeat(3).needs(4, 8) == (1, 3)
    assert Gather(3).needs(1, 3) == (3, 9)


def test_tiles_cover_every_voxel_once():
    count = torch.zeros(5, 7, 9)
    for d, h, w in grid((5, 7, 9), (2, 7, 4)):
        count[slice(*d), slice(*h), slice(*w)] += 1
    assert (count == 1).all()


def test_the_hull_of_two_boxes_holds_both():
    box = hull(((0, 2), (5, 6), (1, 3)), ((1, 4), (2, 3), (1, 2)))
    assert box == ((0, 4), (2, 6), (1, 3))
    assert voxels(box) == 4 * 4 * 2


def test_a_stretch_outside_the_volume_becomes_its_nearest_voxel():
    assert clipped((-4, -1), 6) == (0, 1)
    assert clipped((7, 9), 6) == (5, 6)
