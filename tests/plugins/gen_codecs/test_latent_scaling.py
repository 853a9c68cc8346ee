"""Channel moments of batches of any size are those of all of them at once."""

import pytest
import torch

from gen_codecs.latent_scaling import ChannelMoments


def test_moments_are_those_of_everything_at_once():
    g = torch.Generator().manual_seed(0)
    batches = [
        torch.randn(n, 3, 2, 4, 5, generator=g) * torch.tensor([1.0, 9.0, 0.1]).view(3, 1, 1, 1) + n for n in (4, 1, 2)
    ]
    moments = ChannelMoments()
    for batch in batches:
        moments.add(batch)
    whole = torch.cat(batches).double().movedim(1, 0).flatten(1)
    assert torch.allclose(moments.mean, whole.mean(1))
    assert torch.allclose(moments.sd, whole.std(1, correction=0))


def test_a_channel_that_never_changes_has_a_spread_to_divide_by():
    moments = ChannelMoments()
    moments.add(torch.full((2, 1, 3, 4, 5), 7.0))
    assert moments.mean.item() == 7 and moments.sd.item() == pytest.approx(1e-6)
