"""Tiny GANs, steps and training by hand, for the tests of this folder."""

import pytest
import torch
from attrs import evolve

from gen_core.condition import Conditions, ConditionSpec
from gen_core.options import FitOptions
from gen_core.prior import PriorContext
from gen_core.trainable import Step
from gen_gan.dcgan import build as build_dcgan
from gen_gan.dcgan_options import Dcgan
from gen_gan.stylegan2 import build as build_stylegan2
from gen_gan.stylegan2_options import AugmentOptions, Stylegan2Ada

SHAPE = (3, 1, 16, 24)
SPECS = {"kind": ConditionSpec("class", ("solid", "part-solid", "ground-glass")), "count": ConditionSpec("scalar")}
FIT = FitOptions(steps=6, batch=4, optimizer="adam", lr=2e-3, betas=(0.0, 0.99), ema=0.9, checkpoint_every=100)
EVERYTHING = ("blit", "geometric", "colour", "filter", "noise", "cutout")


@pytest.fixture
def stylegan2():
    """Make a tiny one; further settings by name, `augment` as a dict."""

    def make(shape=SHAPE, specs=None, augment=None, **kw):
        torch.manual_seed(0)
        shown = AugmentOptions(**(augment or {"start": 0.5, "images": 50, "every": 2}))
        options = Stylegan2Ada(
            z_dim=6, w_dim=7, mapping_layers=2, told_dim=5, channel_base=96, channel_max=8, r1_every=2, r1_gamma=1.0,
            path_length_every=3, augment=shown, fit=FIT,
        )  # fmt: skip
        return build_stylegan2(evolve(options, **kw), PriorContext(shape, (-1.0, 1.0), conditions=specs or {}))

    return make


@pytest.fixture
def dcgan():
    """Make a tiny one; further settings by name."""

    def make(shape=SHAPE, specs=None, bounds=(-1.0, 1.0), **kw):
        torch.manual_seed(0)
        options = Dcgan(z_dim=5, width=4, width_max=6, told_dim=3, fit=FIT)
        return build_dcgan(evolve(options, **kw), PriorContext(shape, bounds, conditions=specs or {}))

    return make


@pytest.fixture
def specs():
    return SPECS


@pytest.fixture
def facts():
    """Conditions of n samples, all known."""

    def make(n, seed=0):
        g = torch.Generator().manual_seed(seed)
        values = {"kind": torch.randint(0, 3, (n,), generator=g), "count": 2 * torch.rand(n, generator=g) - 1}
        return Conditions(values, {name: torch.ones(n, dtype=torch.bool) for name in values})

    return make


@pytest.fixture
def step():
    """The Step of an index, its generator seeded by it."""
    return lambda i=0: Step(i, 0, 10, torch.Generator().manual_seed(i), torch.device("cpu"))
