"""Convolutions against torch's own in float32, bf16 gradients of every layer shape, norms at a single value."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gen_codecs.blocks import (
    Conv3d,
    PadDownConv3d,
    RepeatUpConv3d,
    ResidualBlock,
    UpConv3d,
    depth_to_space,
    factor_stride,
    frozen_statistics,
    norm,
    pad_up,
    repeat_voxels,
    resample_kernel,
    space_to_depth,
)

# every stride a level can have: strides 1..16 in one to four levels
LEVELS = [(2, 2, 2), (1, 2, 2), (4, 2, 2), (2, 1, 1), (2, 4, 4), (1, 1, 2), (4, 4, 4)]
DEPTHS = (1, 2, 3, 4, 5, 7, 8, 16)
IN_PLANE = ((1, 1), (2, 3), (4, 6))
ROUNDING = 0.08  # relative; a wrong kernel is off by its whole size, or NaN


def gradients(layer, x, half):
    """Output, gradients of input, weight and bias, for a fixed upstream gradient."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x).float()
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    return [y.detach(), x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()], y[0].numel() ** 0.5


def wrong(layer, channels):
    """Shapes for which bf16 is off by more than rounding; a sum of 27 taps that cancels multiplies it by ten or so."""
    found = []
    for k, p in enumerate(layer.parameters()):
        nn.init.uniform_(p, -0.3, 0.3, generator=torch.Generator().manual_seed(k))
    for d in DEPTHS:
        for h, w in IN_PLANE:
            if isinstance(layer, Conv3d) and any(n < s for n, s in zip((d, h, w), layer.stride)):
                continue
            x = torch.randn(2, channels, d, h, w, generator=torch.Generator().manual_seed(d))
            (full, size), (half, _) = gradients(layer, x, False), gradients(layer, x, True)
            # the last: a bias' gradient is a sum that may cancel
            scales = [a.norm() for a in full[:3]] + [torch.tensor(size)]
            errors = [((a - b).norm() / s).item() for a, b, s in zip(full, half, scales)]
            if not max(errors) < ROUNDING:
                found.append(((d, h, w), errors))
    return found


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("channels", [(1, 8), (8, 16), (8, 1)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1), (1, 3, 3)])
def test_bf16_gradients_of_same_size_convolutions_are_right_at_every_depth(kernel, channels, padding):
    assert wrong(Conv3d(*channels, kernel, padding=padding), channels[0]) == []


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("stride", LEVELS)
def test_bf16_gradients_of_strided_convolutions_are_right_at_every_depth(stride, padding):
    assert wrong(Conv3d(8, 16, resample_kernel(stride), stride, padding), 8) == []


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("channels", [(16, 8), (8, 1)])
@pytest.mark.parametrize("stride", LEVELS)
def test_bf16_gradients_of_transposed_convolutions_are_right_at_every_depth(stride, channels, padding):
    assert wrong(UpConv3d(*channels, stride, padding), channels[0]) == []


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 5, 7), (3, 1, 4), (1, 1, 1)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1)])
def test_same_size_convolutions_equal_torch_s(kernel, shape):
    x = torch.randn(2, 3, *shape)
    for padding, mode in (("zeros", "constant"), ("replicate", "replicate")):
        layer = Conv3d(3, 4, kernel, padding=padding)
        p = kernel[0] // 2
        want = F.conv3d(F.pad(x, [p] * 6, mode=mode) if p else x, layer.weight, layer.bias)
        assert torch.allclose(layer(x), want, atol=1e-5)


@pytest.mark.parametrize("stride", LEVELS)
def test_strided_convolutions_divide_and_transposed_ones_multiply_each_axis(stride):
    size = [s * n for s, n in zip(stride, (2, 3, 1))]
    for padding in ("zeros", "replicate"):
        y = Conv3d(2, 3, resample_kernel(stride), stride, padding)(torch.randn(1, 2, *size))
        assert y.shape == (1, 3, 2, 3, 1)
        assert UpConv3d(3, 2, stride, padding)(y).shape == (1, 2, *size)


def test_transposed_convolutions_equal_torch_s():
    layer = UpConv3d(3, 2, (1, 2, 2))
    for depth in (1, 2, 3):
        x = torch.randn(2, 3, depth, 3, 4)
        want = F.conv_transpose3d(x, layer.weight, layer.bias, (1, 2, 2), (1, 1, 1))
        assert torch.allclose(layer(x), want, atol=1e-5)


def test_replicate_padding_keeps_a_constant_constant():
    x = torch.full((1, 1, 4, 6, 8), 0.7)
    for layer in (
        Conv3d(1, 2, (3, 3, 3), padding="replicate"),
        Conv3d(1, 2, (4, 4, 4), (2, 2, 2), "replicate"),
        UpConv3d(1, 2, (2, 2, 2), "replicate"),
        UpConv3d(1, 2, (1, 2, 2), "replicate"),
    ):
        # even and odd positions of a transposed convolution see other taps
        d, h, w = layer.stride if isinstance(layer, UpConv3d) else (1, 1, 1)
        y = layer(x)[0, 0, ::d, ::h, ::w]
        assert torch.allclose(y, y[0, 0, 0].expand_as(y), atol=1e-5)


@pytest.mark.parametrize(
    ("stride", "levels", "want"),
    [
        ((8, 8, 8), 0, [(2, 2, 2)] * 3),
        ((4, 8, 8), 0, [(2, 2, 2), (2, 2, 2), (1, 2, 2)]),
        ((16, 4, 4), 2, [(4, 2, 2), (4, 2, 2)]),
        ((1, 4, 4), 0, [(1, 2, 2), (1, 2, 2)]),
        ((16, 16, 16), 0, [(2, 2, 2)] * 4),
    ],
)
def test_a_stride_is_shared_out_over_levels(stride, levels, want):
    assert factor_stride(stride, levels) == want


def test_a_stride_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        factor_stride((3, 8, 8))


def test_space_to_depth_keeps_every_voxel_at_its_place():
    x = torch.arange(2.0 * 3 * 4 * 6 * 8).view(2, 3, 4, 6, 8)
    y = space_to_depth(x, (4, 2, 2))
    assert y.shape == (2, 48, 1, 3, 4)
    assert torch.equal(depth_to_space(y, (4, 2, 2)), x)
    # channel c, offset (1, 0, 1) of block (0, 2, 3)
    assert y[1, 2 * 16 + 1 * 4 + 0 * 2 + 1, 0, 2, 3] == x[1, 2, 1, 4, 7]


@pytest.mark.parametrize("kind", ["group", "instance", "batch"])
def test_norms_center_each_group_and_take_a_single_value(kind):
    layer = norm(kind, 12, groups=4).train()
    y = layer(5 + 3 * torch.randn(2, 12, 3, 4, 5))
    groups = {"group": y.view(2, 4, -1), "instance": y.flatten(2), "batch": y.transpose(0, 1).flatten(1)}[kind]
    assert groups.mean(-1).abs().max() < 1e-4
    assert (groups.std(-1) - 1).abs().max() < 0.02
    assert torch.isfinite(layer(torch.randn(1, 12, 1, 1, 1))).all()
    assert all(torch.isfinite(b).all() for b in layer.buffers())


def test_group_norm_lowers_its_groups_to_a_divisor():
    assert norm("group", 12, groups=32).num_groups == 4
    assert norm("group", 7, groups=32).num_groups == 1


def test_frozen_statistics_leave_the_gradient_but_not_the_average():
    block = nn.Sequential(ResidualBlock(4, "batch", 4, "zeros")).train()
    x = torch.randn(2, 4, 3, 4, 5)
    with frozen_statistics(block):
        silent = block(x)
    assert block[0].norm1.num_batches_tracked == 0 and (block[0].norm1.running_mean == 0).all()
    assert torch.equal(silent, block(x))
    assert block[0].norm1.num_batches_tracked == 1 and (block[0].norm1.running_mean != 0).any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("depth", [1, 2])
def test_weight_gradients_of_wide_layers_are_right_in_bf16(threads, depth):
    # 512 channels and one thread: F.conv3d's own bf16 weight gradient is NaN here
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        layer = Conv3d(512, 16, (3, 3, 3))
        x = torch.randn(2, 512, depth, 16, 16)
        gradients = []
        for half in (False, True):
            layer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                y = layer(x)
            y.float().square().mean().backward()
            gradients.append(layer.weight.grad.clone())
    finally:
        torch.set_num_threads(before)
    assert (gradients[1] - gradients[0]).norm() < 0.02 * gradients[0].norm()


# Of the KL autoencoder


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 2)])
@pytest.mark.parametrize("depth", [1, 6])
def test_padding_behind_halves_even_sizes(stride, depth):
    if depth == 1 and stride[0] == 2:
        depth = 2
    torch.manual_seed(0)
    conv = PadDownConv3d(3, 4, stride)
    x = torch.randn(2, 3, depth, 8, 10)
    front = [1 - (s > 1) for s in stride]  # kept axes are padded on both sides, halved ones behind only
    padded = F.pad(x, (front[2], 1, front[1], 1, front[0], 1))
    want = F.conv3d(padded, conv.weight, conv.bias, stride)
    got = conv(x)
    assert got.shape[2:] == tuple(n // s for n, s in zip(x.shape[2:], stride))
    assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (1, 1, 4)])
def test_repeated_voxels_are_nearest_interpolation_gradient_included(stride):
    x = torch.randn(2, 3, 2, 4, 5, requires_grad=True)
    got, want = repeat_voxels(x, stride), F.interpolate(x, scale_factor=stride, mode="nearest")
    assert torch.equal(got, want)
    weights = torch.randn(got.shape)
    gradients = [torch.autograd.grad((t * weights).sum(), x)[0] for t in (got, want)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_linear_up_sampling_keeps_ramps_away_from_the_rim():
    up = RepeatUpConv3d(1, 1, (2, 2, 2), linear=True)
    torch.nn.init.zeros_(up.conv.weight)
    torch.nn.init.zeros_(up.conv.bias)
    up.conv.weight.data[0, 0, 1, 1, 1] = 1
    x = torch.arange(4.0).expand(1, 1, 2, 3, 4)
    assert torch.allclose(up(x)[0, 0, 1, 1, 1:-1], torch.arange(0.25, 3.0, 0.5))


def test_padding_up_repeats_the_last_voxels_and_leaves_even_sizes_alone():
    x = torch.randn(2, 3, 4, 5, 6)
    assert pad_up(x, (4, 5, 3)) is x
    padded = pad_up(x, (3, 4, 4))
    assert padded.shape == (2, 3, 6, 8, 8)
    assert torch.equal(padded[:, :, :4, :5, :6], x)
    assert torch.equal(padded[:, :, 5, 7, 7], x[:, :, -1, -1, -1])


def test_a_residual_block_that_changes_channels_has_a_shortcut():
    torch.manual_seed(0)
    block = ResidualBlock(4, "group", 2, "zeros", 6)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 4, 3, 5, 7)
    want = torch.einsum("oc,bcdhw->bodhw", block.shortcut.weight[:, :, 0, 0, 0], x) + block.shortcut.bias.view(
        6, 1, 1, 1
    )
    assert torch.allclose(block(x), want, atol=1e-5)
    assert not [k for k in ResidualBlock(4, "group", 2, "zeros").state_dict() if "shortcut" in k]


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 2)])
@pytest.mark.parametrize("channels", [16, 64])
def test_bf16_gradients_of_halving_convolutions_are_right_at_every_depth(stride, channels):
    assert wrong(PadDownConv3d(channels, channels, stride), channels) == []
