"""The codec that leaves volumes as they are."""

import torch

from gen_codecs.identity import IdentityOptions
from gen_codecs.identity_codec import build
from gen_core.codec import CodecContext
from gen_core.testing.trainables import check_codec
from gen_core.volume import VolumeSpec


def test_it_keeps_the_contract_without_weights():
    codec = build(IdentityOptions(), CodecContext(VolumeSpec((4, 5, 6), ("t1", "t2", "pd"))))
    x = 2 * torch.rand(2, 3, 4, 5, 6) - 1
    check_codec(codec, x)
    assert not codec.fitted and codec.state_dict() == {}
    assert codec.latent.shape((4, 5, 6)) == (3, 4, 5, 6)
    assert torch.equal(codec.encode(x), x) and torch.equal(codec.decode(x), x)


def test_samples_outside_the_range_are_clamped_on_decoding():
    codec = build(IdentityOptions(), CodecContext(VolumeSpec((1, 2, 2))))
    assert codec.decode(torch.tensor([-3.0, 0.5, 2.0]).view(1, 1, 1, 1, 3)).flatten().tolist() == [-1, 0.5, 1]
