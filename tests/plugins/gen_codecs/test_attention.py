"""Voxel attention: against the written-out softmax in float64, whatever the order of voxels."""

import torch

from gen_codecs.attention import VoxelAttention


def make(channels=8):
    torch.manual_seed(0)
    block = VoxelAttention(channels, 4)
    with torch.no_grad():
        for p in block.parameters():
            p += 0.3 * torch.randn(p.shape)
    return block


def test_it_is_the_softmax_of_scaled_products_added_to_its_input():
    block = make()
    x = torch.randn(2, 8, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got = block(x)
        block, x = block.double(), x.double()
        tokens = block.norm(x).flatten(2).transpose(1, 2)
        q, k, v = block.q(tokens), block.k(tokens), block.v(tokens)
        y = block.out((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v)
        want = x + y.transpose(1, 2).reshape(x.shape)
    assert (got - want).abs().max() < 1e-5


def test_voxels_have_no_order():
    block, x = make(), torch.randn(1, 8, 2, 3, 4, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    mix = lambda t: t.flatten(2)[:, :, order].view(t.shape)
    assert torch.allclose(block(mix(x)), mix(block(x)), atol=1e-5)


def test_one_voxel_is_enough():
    assert torch.isfinite(make()(torch.randn(2, 8, 1, 1, 1))).all()
