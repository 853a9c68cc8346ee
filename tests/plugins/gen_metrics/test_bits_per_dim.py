"""Bits a value: the closed form of a normal prior, grey levels, the choice of volumes, what is refused."""

import math
from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.errors import RecipeError
from gen_core.paths.vp_path import VpPath
from gen_core.prior import DiffusionPrior, DirectPrior
from gen_core.testing import gaussian_denoise
from gen_metrics.bits_per_dim import BitsPerDim
from gen_metrics.metric_options import BitsPerDim as Options


def volumes(n=3, seed=0):
    return 0.1 + 0.3 * torch.randn(n, 1, 5, 6, 4, generator=torch.Generator().manual_seed(seed))


def bits(x):
    """-log2 of the normal density N(0.1, 0.3^2), the mean over values and volumes."""
    return -torch.distributions.Normal(0.1, 0.3).log_prob(x.double()).mean().item() / math.log(2)


def value(metric, x, source="val"):
    metric.update(Batch(x, [f"v{i}" for i in range(len(x))]), source)
    (found,) = metric.compute().values
    assert (found.name, found.source, found.n) == ("bits-per-dim", source, len(x))
    return found.value


def test_the_density_of_a_normal_prior_is_found(context):
    x = volumes()
    assert value(BitsPerDim(Options(), context), x) == pytest.approx(bits(x), rel=5e-3)


class Two(DiffusionPrior):
    """The exact prior of two classes: values of class k are N(0.1 + k, 0.3^2), of no known class those of 0."""

    def __init__(self):
        super().__init__()
        self.shape, self.path = (1, 5, 6, 4), VpPath()

    def denoise(self, z_t, t, cond=None):
        mean = 0.1 + (cond.values["kind"] * cond.present["kind"] if cond else torch.zeros(len(z_t)))
        mean = mean.to(z_t).reshape(-1, 1, 1, 1, 1)
        shift = self.path.alpha(t.double()).to(z_t).reshape(-1, 1, 1, 1, 1) * mean
        z_0, eps = gaussian_denoise(self.path, 0.0, 0.3)(z_t - shift, t)
        return z_0 + mean, eps


def test_a_prior_is_told_the_conditions_of_each_volume(context):
    x, kind = volumes(), torch.tensor([0, 1, 1])
    x = x + kind.reshape(-1, 1, 1, 1, 1)
    asked = SimpleNamespace(
        **vars(context)
        | {
            "prior": Two,
            "conditions": lambda batch: Conditions({"kind": kind[[int(i[1]) for i in batch.ids]]}, {"kind": kind >= 0}),
        }
    )
    told = value(BitsPerDim(Options(), asked), x)
    assert told == pytest.approx(bits(x - kind.reshape(-1, 1, 1, 1, 1)), rel=5e-3)
    # untold, volumes of class 1 lie 1 / 0.3 standard deviations off
    assert value(BitsPerDim(Options(told=False), asked), x) == pytest.approx(bits(x), rel=5e-3)
    assert "none told" in str(BitsPerDim(Options(told=False), asked).compute().protocol)


def test_grey_levels_add_their_number_of_bits(context):
    x = (volumes() * 16).round() / 16  # levels of the width 2 / 32
    # the spread adds the variance of an even level, 1/12 of its width squared, to the squared distance
    spread = bits(x) + (2 / 32) ** 2 / 12 / (2 * 0.3**2) / math.log(2)
    assert value(BitsPerDim(Options(levels=32), context), x) == pytest.approx(spread + math.log2(16), abs=0.02)


def test_volumes_are_chosen_by_their_names_alone(context):
    context.counts = {"val": 40}
    metric = BitsPerDim(Options(volumes=10), context)
    chosen = [name for name in map("v{}".format, range(400)) if metric.chosen("val", name)]
    assert 70 < len(chosen) < 130 and metric.compute().values == []
    context.counts = {"val": 4}
    assert all(metric.chosen("val", f"v{i}") for i in range(50))


def test_priors_without_a_path_and_latents_that_are_no_volumes_are_refused(context):
    batch = Batch(volumes(), ["a", "b", "c"])
    halved = SimpleNamespace(encode=lambda x: x[..., ::2])
    for message, settings, change in (
        ("needs a diffusion prior", {}, {"prior": lambda: DirectPrior.__new__(OneShot)}),
        ("levels: latents are not the volume", {"levels": 8}, {"codec": lambda: halved}),
    ):
        asked = SimpleNamespace(**vars(context) | change)
        with pytest.raises(RecipeError, match=message):
            BitsPerDim(Options(**settings), asked).update(batch, "val")


class OneShot(DirectPrior):
    """A prior without a noise path."""

    def noise_shape(self, n):
        return (n, 2)

    def draw(self, noise, cond=None, **options):
        return noise
