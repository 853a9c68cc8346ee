"""SSIM of reconstructions against pytorch-msssim band by band."""

import pytest
from pytorch_msssim import ssim as peer

from gen_metrics.metric_options import Ssim as Options
from gen_metrics.ssim import Ssim


def test_ssim_is_the_peers_value_with_bands_as_channels(context, world, feed, one):
    x, _, y, _ = world["reconstruction"]
    want = float(peer(x[:, 0] + 1, y[:, 0] + 1, data_range=2.0))
    got = one(feed(Ssim(Options(), context)).compute(), "ssim", "reconstruction")
    assert got.value == pytest.approx(want, abs=1e-4) and got.n == len(x)
