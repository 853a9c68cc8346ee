"""The probe: logistic regression as scikit-learn has it, fine-tuning of a copy, baselines, labels, resuming."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from gen_core.batch import Batch
from gen_core.dataset import Split
from gen_core.engine.fit import fit
from gen_core.engine.source import SplitSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.options import FitOptions
from gen_core.testing import check_features
from gen_core.trainable import Step
from gen_core.volume import Sample, VolumeSpec
from gen_features.feature_options import RandomConv64
from gen_features.probe import HEAD_RATE, band_triplets, build
from gen_features.probe_options import Probe as Options
from gen_features.random_conv64 import build as build_random

SPEC = VolumeSpec((4, 9, 11))
N = 96


class Means(FeatureNetwork):
    """Features of volumes: a linear map of band means and of their squares; a head that features do not use."""

    takes, dim, fitted = "volume", 6, True

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.mix, self.head = nn.Linear(8, 6), nn.Linear(6, 3)

    def embed(self, x):
        m = x.mean((1, 3, 4))
        return self.mix(torch.cat((m, m.square()), 1))

    @torch.no_grad()
    def features(self, x):
        return self.embed(x)

    def protocol(self):
        return {"name": "means", "sha256": "0", "train_on": "synthetic"}


def volumes(n=N, seed=0):
    """(x, labels): where the label is 1 the first band is a little darker."""
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=g) < 0.4).float()
    level = 0.2 * torch.randn(n, 1, 4, 1, 1, generator=g)
    x = level + 0.05 * torch.randn(n, 1, *SPEC.size, generator=g)
    x[:, :, 0] -= 0.4 * y[:, None, None, None]
    return x.clamp(-1, 1), y


class Labelled(Split):
    def __init__(self, n=N, seed=0):
        self.x, self.y = volumes(n, seed)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return Sample(self.x[i].numpy(), f"v{i}", f"s{i}", f"h{i}", condition={"deposits": np.float32(self.y[i])})


@pytest.fixture
def make():
    network = Means()

    def make(network=network, **options):
        context = FeaturesContext(SPEC, None, {"features": network}.__getitem__, lambda table: Means(seed=9))
        return build(Options(**options), context)

    return make


def batch(n=7, seed=1, label="deposits"):
    x, y = volumes(n, seed)
    return Batch(x, [f"b{i}" for i in range(n)], condition={label: y} if label else {})


def fitted(probe, folder, **options):
    options = {"steps": 400, "batch": 32, "lr": 1e-3, "optimizer": "adam", "schedule": "cosine", **options}
    stop = options.pop("stop", None)
    fit(probe, SplitSource(Labelled()), FitOptions(**options), folder=folder, stage="fit.probe", seed=5, stop=stop)
    return probe


@pytest.mark.parametrize(
    "options", [{}, {"tune": "full"}, {"from_scratch": True}, {"tune": "full", "from_scratch": True}]
)
def test_a_probe_keeps_the_contract_of_feature_networks(make, options):
    check_features(make(**options), volumes(5)[0], batch())


def test_the_linear_probe_finds_the_coefficients_that_scikit_learn_finds(make, tmp_path):
    from sklearn.linear_model import LogisticRegression

    l2 = 0.02
    probe = fitted(make(l2=l2, normalize_steps=30), tmp_path, steps=250, batch=N, lr=4e-3)
    x, y = volumes()
    features = Means().features(x).double().numpy()
    z = (features - features.mean(0)) / features.std(0)
    np.testing.assert_allclose(probe.mean, features.mean(0), atol=1e-5)
    np.testing.assert_allclose(probe.spread, features.std(0), rtol=1e-4)
    peer = LogisticRegression(C=1 / (l2 * N), tol=1e-10, max_iter=10000).fit(z, y.numpy())
    np.testing.assert_allclose(probe.coefficients().detach(), peer.coef_[0], atol=0.02)
    np.testing.assert_allclose(probe.features(x)[:, 0], peer.decision_function(z), atol=0.05)


def test_a_linear_probe_leaves_the_network_alone_and_a_full_one_tunes_a_copy(make, tmp_path):
    network = Means()
    before = copy.deepcopy(network.state_dict())
    linear = fitted(make(network), tmp_path / "linear", steps=20)
    full = fitted(make(network, tune="full"), tmp_path / "full", steps=20)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert {n for n, _ in linear.named_parameters()} == {"weight", "bias"}
    learned = {n for n, p in full.named_parameters() if not torch.equal(p, make(network, tune="full").get_parameter(n))}
    assert learned == {"weight", "bias", "backbone.mix.weight", "backbone.mix.bias"}, "the unused head stays"


def test_both_learn_the_label(make, tmp_path):
    x, y = volumes(200, seed=8)
    for tune in ("linear", "full"):
        probe = fitted(make(tune=tune), tmp_path / tune, steps=150)
        right = ((probe.features(x)[:, 0] > 0) == (y > 0.5)).float().mean()
        assert right > 0.8, tune


def test_from_scratch_takes_the_weights_as_built_whatever_was_fitted(make):
    one, other = make(from_scratch=True), make(Means(seed=4), from_scratch=True)
    assert torch.equal(one.backbone.mix.weight, other.backbone.mix.weight)
    assert torch.equal(one.backbone.mix.weight, Means(seed=9).mix.weight)
    assert "train_on" not in one.protocol()["backbone"]
    assert make().protocol()["backbone"]["train_on"] == "synthetic"


def test_a_network_without_gradients_can_be_probed_linearly_only(make):
    network = build_random(RandomConv64(), FeaturesContext(SPEC)).eval().requires_grad_(False)
    with pytest.raises(RecipeError, match='tune = "linear"'):
        make(network, tune="full")
    probe = make(network)
    assert probe.weight.shape == (2 * 64,) and probe.takes == "volume"
    check_features(probe, volumes(3)[0], batch())


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 16])
def test_triplets_hold_every_band_in_falling_wavelength(bands):
    picks = band_triplets(bands)
    assert set(picks.flatten().tolist()) == set(range(bands))
    assert len(picks) == -(-bands // 3) and (picks.diff(dim=1) <= 0).all()


def test_features_of_an_image_network_stand_side_by_side(make):
    network = build_random(RandomConv64(), FeaturesContext(SPEC)).eval()
    x = volumes(3)[0]
    found = make(network).embed(x)
    for t, (r, g, b) in enumerate(band_triplets(4).tolist()):
        want = network.features(x[:, 0, [r, g, b]])
        torch.testing.assert_close(found[:, 64 * t : 64 * (t + 1)], want, rtol=1e-4, atol=1e-5)


def test_volumes_without_the_label_or_with_another_kind_are_refused(make):
    probe = make()
    step = Step(0, 0, 10, torch.Generator(), torch.device("cpu"))
    with pytest.raises(RecipeError, match="no such condition; they have age"):
        next(probe.training_step(batch(label="age"), step))
    with pytest.raises(RecipeError, match="they have none"):
        next(probe.training_step(batch(label=""), step))
    wrong = batch()
    wrong.condition["deposits"] = wrong.condition["deposits"] + 0.5
    with pytest.raises(RecipeError, match="0 or 1"):
        next(probe.training_step(wrong, step))


def test_the_loss_is_cross_entropy_and_the_penalty_on_standardized_weights(make):
    probe = make(l2=0.3, normalize_steps=1)
    b = batch(9)
    item = next(probe.training_step(b, Step(0, 0, 10, torch.Generator(), torch.device("cpu"))))
    p = torch.sigmoid(probe.features(b.x)[:, 0]).double()
    y = b.condition["deposits"].double()
    want = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert item.losses["bce"].item() == pytest.approx(want.item(), rel=1e-5)
    w = HEAD_RATE * probe.root @ probe.weight
    assert item.losses["l2"].item() == pytest.approx(0.15 * w.square().sum().item(), rel=1e-6)


def test_a_stopped_fit_goes_on_to_the_same_bits(make, tmp_path):
    class After(StopFlag):
        def __init__(self, looks):
            self.looks = looks
            super().__init__()

        @property
        def requested(self):
            self.looks -= 1
            return "SIGTERM" if self.looks < 0 else ""

        @requested.setter
        def requested(self, value):
            pass

    for tune in ("linear", "full"):
        whole = fitted(make(tune=tune), tmp_path / f"{tune}-whole", steps=12, checkpoint_every=5)
        with pytest.raises(Stopped):
            fitted(make(tune=tune), tmp_path / f"{tune}-parts", steps=12, checkpoint_every=5, stop=After(20))
        torch.manual_seed(77)
        parts = fitted(make(tune=tune), tmp_path / f"{tune}-parts", steps=12, checkpoint_every=5)
        assert all(torch.equal(v, parts.state_dict()[k]) for k, v in whole.state_dict().items())


def test_the_protocol_names_what_was_probed_and_how(make):
    protocol = make(label="deposits", tune="full").protocol()
    json.dumps(protocol)
    assert (protocol["name"], protocol["label"], protocol["tune"]) == ("probe", "deposits", "full")
    assert protocol["backbone"]["name"] == "means" and len(protocol["sha256"]) == 64


def test_options_refuse_nonsense():
    for bad in ({"label": ""}, {"backbone": ""}, {"l2": -1.0}, {"normalize_steps": 0}):
        with pytest.raises(ValueError):
            Options(**bad)
