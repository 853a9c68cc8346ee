"""Shapes of the patch discriminators at every depth, and the slices they are shown."""

import pytest
import torch
from attrs import evolve

from gen_codecs.discriminators import PatchDiscriminator, as_image, random_slices
from gen_codecs.vq_options import DiscriminatorOptions

SMALL = DiscriminatorOptions(width=4, layers=3)


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
@pytest.mark.parametrize("size", [(1, 9, 7), (2, 16, 12), (5, 8, 8), (16, 11, 24), (1, 2, 3)])
def test_volumes_of_any_depth_and_odd_sizes_pass_even_one_at_a_time(size, kind):
    critic = PatchDiscriminator(2, evolve(SMALL, norm=kind), flat=False).train()
    maps = critic(torch.randn(1, 2, *size))
    assert len(maps) == 5
    assert [m.shape[1] for m in maps] == [4, 8, 16, 32, 1]
    assert all(torch.isfinite(m).all() for m in maps)
    maps[-1].sum().backward()
    # the first layer learns, unless a norm over a single voxel hides everything before it
    reached = critic.layers[0][0].conv.weight.grad.abs().max()
    assert torch.isfinite(reached)
    if min(size[1:]) >= 7:
        assert reached > 0


def test_a_published_patch_sees_a_window_of_the_image():
    critic = PatchDiscriminator(3, DiscriminatorOptions(width=2, layers=2, norm="batch"), flat=True).eval()
    x = torch.randn(1, 3, 1, 40, 40, requires_grad=True)
    critic(x)[-1][0, 0, 0, 5, 5].backward()
    seen = x.grad.abs().sum((0, 1, 2)).nonzero()
    # two strided kernel-4 layers, then two kernel-3: 1 -> 3 -> 5 -> 12 -> 26 pixels
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [26, 26]


def test_a_flat_discriminator_sees_images():
    critic = PatchDiscriminator(6, SMALL, flat=True)
    maps = critic(torch.randn(2, 6, 1, 17, 23))
    assert all(m.shape[2] == 1 for m in maps)
    assert all(p.shape[2] == 1 for p in critic.parameters() if p.ndim == 5)


@pytest.mark.parametrize("depth", [3, 4, 16])
def test_three_different_slices_in_falling_order_are_drawn(depth):
    x = torch.empty(64, 1, depth, 2, 2)
    at = random_slices(x, 3, torch.Generator().manual_seed(0))
    assert at.shape == (64, 3)
    assert (at[:, :-1] > at[:, 1:]).all()
    assert at.min() == 0 and at.max() == depth - 1
    # every slice is drawn, about equally often
    share = torch.bincount(at.flatten(), minlength=depth) / at.numel()
    assert (share > 0.3 / depth).all()
    assert torch.equal(at, random_slices(x, 3, torch.Generator().manual_seed(0)))


def test_thin_volumes_repeat_slices():
    generator = torch.Generator().manual_seed(0)
    assert (random_slices(torch.empty(5, 1, 1, 2, 2), 3, generator) == 0).all()
    two = random_slices(torch.empty(50, 1, 2, 2, 2), 3, generator)
    assert (two[:, 0] == 1).all() and (two[:, 2] == 0).all()


def test_the_image_holds_the_chosen_slices_of_each_volume():
    x = torch.randn(2, 3, 5, 4, 6)
    image = as_image(x, torch.tensor([[4, 2, 0], [3, 1, 0]]))
    assert image.shape == (2, 9, 1, 4, 6)
    assert torch.equal(image[1, 3 * 2 + 1, 0], x[1, 2, 1])  # channel 2, second slice
    assert torch.equal(image[0, :3, 0], x[0, 0, [4, 2, 0]])
