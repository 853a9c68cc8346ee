"""The codec's own terms: of the KL codec against torch.distributions, of none from a codec that says nothing."""

from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.volume import VolumeSpec
from gen_metrics.codec_terms import CodecTerms
from gen_metrics.metric_options import CodecTerms as Options


class Posterior:
    """A codec that knows a Gaussian posterior for every volume: mean x, sd 1/2."""

    def terms(self, x, x_hat):
        normal = torch.distributions.Normal
        kl = torch.distributions.kl_divergence(normal(x, 0.5), normal(0.0, 1.0))
        return {"kl": kl.flatten(1).sum(1), "gap": (x - x_hat).abs().flatten(1).mean(1)}


def test_terms_are_averaged_over_volumes():
    metric = CodecTerms(Options(), SimpleNamespace(codec=Posterior, seed=0, spec=VolumeSpec((2, 3, 4))))
    y = torch.randn(5, 1, 2, 3, 4)
    metric.update(Batch(y + 0.25, [f"v{i}" for i in range(5)], reference=y), "reconstruction")
    values = {v.name: v for v in metric.compute().values}
    # per value: ln 2 + (1/4 + x^2 - 1) / 2
    want = (0.6931471805599453 + (0.25 + y.double() ** 2 - 1) / 2).flatten(1).sum(1).mean()
    assert values["kl"].value == pytest.approx(float(want), rel=1e-5) and values["kl"].n == 5
    assert values["gap"].value == pytest.approx(0.25, rel=1e-5)


def test_a_codec_that_says_nothing_has_no_scores():
    codec = lambda: SimpleNamespace(terms=lambda x, x_hat: {})
    metric = CodecTerms(Options(), SimpleNamespace(codec=codec, seed=0, spec=VolumeSpec((2, 3, 4))))
    y = torch.randn(2, 1, 2, 3, 4)
    metric.update(Batch(y, ["a", "b"], reference=y), "reconstruction")
    assert metric.compute().values == [] and "says nothing" in metric.compute().protocol["note"]
