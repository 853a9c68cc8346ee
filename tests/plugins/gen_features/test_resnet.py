"""Residual networks: published sizes, a block by hand, norms that keep the samples of a batch apart."""

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, group_norm, relu

from gen_features.resnet import GroupedBatchNorm, Residual, ResNet
from gen_features.resnet import group_norm as make_norm


@pytest.mark.parametrize("layers, weights, dim", [(18, 11_176_512, 512), (50, 23_508_032, 2048)])
def test_it_has_the_published_number_of_weights(layers, weights, dim):
    # torchvision's resnet18 and resnet50 less their classifiers (513 000 and 2 049 000 weights)
    with torch.device("meta"):
        network = ResNet(3, layers, stem="large", norm=torch.nn.BatchNorm2d)
    assert sum(p.numel() for p in network.parameters()) == weights and network.dim == dim


@pytest.mark.parametrize("stem, shrink", [("small", 8), ("medium", 16), ("large", 32)])
def test_a_stem_decides_how_far_an_image_shrinks(stem, shrink):
    network = ResNet(2, width=8, stem=stem)
    maps = []
    network.blocks.register_forward_hook(lambda module, args, out: maps.append(out.shape))
    assert network(torch.randn(3, 2, 64, 96)).shape == (3, 64)
    assert maps == [(3, 64, 64 // shrink, 96 // shrink)]


def test_a_block_of_two_convolutions_is_its_formula():
    torch.manual_seed(0)
    block = Residual(6, 8, 2, False, make_norm)
    torch.nn.init.normal_(block.norms[1].weight)
    x = torch.randn(2, 6, 9, 7)
    norm = lambda h, n: group_norm(h, 8, n.weight, n.bias)
    h = relu(norm(conv2d(x, block.convs[0].weight, stride=2, padding=1), block.norms[0]))
    h = norm(conv2d(h, block.convs[1].weight, padding=1), block.norms[1])
    beside = norm(conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    torch.testing.assert_close(block(x), relu(h + beside))


def test_the_stride_of_a_bottleneck_sits_in_its_middle():
    block = Residual(8, 32, 2, True, make_norm)
    assert [c.stride for c in block.convs] == [(1, 1), (2, 2), (1, 1)]
    assert [c.weight.shape[:2] for c in block.convs] == [(8, 8), (8, 8), (32, 8)]


def test_a_block_starts_as_its_shortcut():
    block = Residual(8, 8, 1, False, make_norm)
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(block(x), relu(x))


def test_group_norm_takes_as_many_groups_as_divide_the_channels():
    assert [make_norm(c).num_groups for c in (16, 12, 7, 5)] == [8, 6, 7, 5]


@pytest.mark.parametrize("n, sizes", [(6, [3, 3]), (7, [3, 2, 2]), (4, [2, 2]), (3, [3]), (2, [2])])
def test_grouped_statistics_are_those_of_each_group_alone(n, sizes):
    norm = GroupedBatchNorm(5, of=3).train()
    x = torch.randn(n, 5, 4, 6, generator=torch.Generator().manual_seed(n))
    expected = torch.cat([batch_norm(part, None, None, training=True) for part in x.split(sizes)])
    torch.testing.assert_close(norm(x), expected)


def test_grouped_norm_evaluates_with_running_statistics():
    norm = GroupedBatchNorm(5, of=2)
    x = torch.randn(6, 5, 4, 3) * 2 + 1
    for _ in range(60):
        norm.train()(x)
    rows = x.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, rows.mean(1), atol=2e-2, rtol=0.1)
    torch.testing.assert_close(norm.eval()(x)[1:2], norm(x[1:2]))
