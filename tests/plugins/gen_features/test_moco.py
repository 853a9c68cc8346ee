"""Momentum Contrast: the contract, equation 1, the queue, no way around learning, and a resume to the same bits."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from gen_core.batch import Batch
from gen_core.engine import checkpoint as ckpt
from gen_core.engine.fit import fit
from gen_core.engine.source import TensorSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.features import FeaturesContext
from gen_core.options import FitOptions
from gen_core.testing import check_features
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_features.codec_features import weights_sha256
from gen_features.moco import Standardize, _triplets, build_resnet18, build_resnet50
from gen_features.moco_options import MocoResnet18, MocoResnet50
from gen_features.view_options import ViewOptions


def small(spec, *, seed=0, batch=4, accumulate=1, **changes):
    fit_options = FitOptions(steps=20, batch=batch, accumulate=accumulate)
    settings = dict(width=8, embedding=12, queue=10, norm_groups_of=2, fit=fit_options)
    torch.manual_seed(seed)
    return build_resnet18(MocoResnet18(**{**settings, **changes}), FeaturesContext(spec))


def at(index=0, micro=0, total=20):
    return Step(index, 0, total, torch.Generator().manual_seed(index), torch.device("cpu"), micro)


@pytest.mark.parametrize("planes", ["bands", "triplets"])
@pytest.mark.parametrize("norm", ["group", "shuffled-batch"])
def test_it_keeps_the_contract(make_eyes, spec, norm, planes):
    batch = make_eyes(4, 0)
    network = small(spec, norm=norm, planes=planes)
    assert network.takes == ("image" if planes == "triplets" else "volume") and network.fitted
    check_features(network, batch.x[:, 0, [5, 3, 0]] if planes == "triplets" else batch.x, batch)


def test_fifty_layers_keep_the_contract(make_eyes, spec):
    torch.manual_seed(0)
    options = MocoResnet50(width=8, embedding=12, queue=10, fit=FitOptions(batch=4))
    network = build_resnet50(options, FeaturesContext(spec))
    batch = make_eyes(4, 0)
    assert network.dim == 256 and network.protocol()["name"] == "moco-resnet50"
    check_features(network, batch.x, batch)


def test_the_loss_is_equation_one(make_eyes, spec):
    network, batch = small(spec, temperature=0.5).train(), make_eyes(4, 0)
    loss = next(network.training_step(batch, at())).losses["contrast"]
    (pair,) = network._seen
    total = 0.0
    for i in range(4):
        own = math.exp(float(pair.q[i] @ pair.k[i]) / 0.5)
        others = [math.exp(float(pair.q[i] @ pair.k[j]) / 0.5) for j in range(4) if j != i]
        queue = [math.exp(float(pair.q[i] @ key) / 0.5) for key in network.queue]
        total -= math.log(own / (own + sum(others) + sum(queue))) / 4
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(pair.k.norm(dim=1), torch.ones(4))


def test_keys_of_the_same_volume_are_no_negatives(make_eyes, spec):
    network, batch = small(spec).train(), make_eyes(3, 0)
    batch = Batch(batch.x[[0, 0, 1, 2]], [batch.ids[i] for i in (0, 0, 1, 2)])
    list(network.training_step(batch, at()))
    network.updated("main", at())
    list(network.training_step(batch, at(1)))
    _, fresh, queued = network._similarities(network._seen[0])
    assert fresh.isinf().int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert queued.isinf().int()[:, :4].tolist() == fresh.isinf().int().tolist()
    assert not queued[:, 4:].isinf().any()  # the start vectors belong to nobody


def test_the_queue_is_a_ring_of_the_latest_keys(make_eyes, spec):
    network = small(spec).train()
    start, seen = network.queue.clone(), []
    for index in range(3):
        list(network.training_step(make_eyes(4, index), at(index)))
        seen.append(network._seen[0].k)
        before = network.queue.clone()
        network.updated("main", at(index))
        changed = (network.queue != before).any(1).nonzero()[:, 0].tolist()
        assert changed == sorted((4 * index + j) % 10 for j in range(4))
    keys = torch.cat(seen)
    assert torch.equal(network.queue, torch.cat((keys[10:12], keys[2:10]))) and not torch.equal(start, network.queue)
    assert int(network.enqueued) == 12


def test_micro_batches_fill_the_queue_once_and_a_retry_starts_anew(make_eyes, spec):
    network, batch = small(spec).train(), make_eyes(4, 0)
    list(network.training_step(batch, at()))  # given up: the next try begins at micro 0
    list(network.training_step(batch.part(0, 2), at(micro=0)))
    list(network.training_step(batch.part(2, 4), at(micro=1)))
    assert int(network.enqueued) == 0  # only `updated` moves on
    network.updated("main", at())
    assert int(network.enqueued) == 4 and network._seen == []


@pytest.mark.parametrize(
    "total, scaled, m", [(20, True, 0.5), (4, True, 0.0), (100_000, True, 0.999), (20, False, 0.999)]
)
def test_the_key_encoder_follows_by_momentum(make_eyes, spec, total, scaled, m):
    network = small(spec, scale_momentum=scaled).train()
    with torch.no_grad():
        network.backbone.conv.weight += 1.0
    key, query = network.key_backbone.conv.weight.clone(), network.backbone.conv.weight.clone()
    list(network.training_step(make_eyes(4, 0), at(total=total)))
    network.updated("main", at(total=total))
    torch.testing.assert_close(network.key_backbone.conv.weight, m * key + (1 - m) * query)
    assert not any(p.requires_grad for p in network.key_backbone.parameters())


def test_the_key_batch_is_normed_in_other_groups_than_the_query_batch(make_eyes, spec):
    still = ViewOptions(crop=1.0, aspect=1.0, rotate=0.0, gain=0.0, offset=0.0, tilt=0.0, cutout=0.0)
    network, batch = small(spec, norm="shuffled-batch", batch=8, views=still).train(), make_eyes(8, 0)
    seen = {}
    hook = lambda name: lambda module, args: seen.setdefault(name, args[0])
    network.backbone.register_forward_pre_hook(hook("query"))
    network.key_backbone.register_forward_pre_hook(hook("key"))
    list(network.training_step(batch, at()))
    (pair,) = network._seen
    restored = normalize(network.key_head(pair.key_features))
    torch.testing.assert_close(restored, pair.k)
    # views that change little: the nearest mean spectrum tells who stands where
    spectra = lambda x: x.mean((2, 3))
    who = lambda view: torch.cdist(spectra(view), spectra(batch.x[:, 0])).argmin(1).tolist()
    assert who(seen["query"]) == list(range(8)) and who(seen["key"]) != list(range(8))


def test_standardize_knows_earlier_steps_only():
    layer, x = Standardize(3), torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 4 + 7
    assert torch.allclose(layer(x), x, atol=1e-4)  # nothing learnt yet
    layer.learn(x)
    torch.testing.assert_close(layer(x).mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer(x).var(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    layer.learn(x + 10)
    torch.testing.assert_close(layer.mean, x.mean(0) + 1.0)


def test_triplets_are_distinct_bands_in_falling_wavelength():
    x = torch.arange(6.0)[None, None, :, None, None].expand(200, 1, 6, 4, 5)
    bands = _triplets(x, torch.Generator().manual_seed(0))[:, 0, :, 0, 0]
    assert (bands.diff(dim=1) < 0).all() and len({tuple(b.tolist()) for b in bands}) == 20  # all of 6 over 3


def test_validation_says_alignment_and_uniformity_of_wang_and_isola(make_eyes, spec):
    network, batch = small(spec).eval(), make_eyes(5, 0)
    values = network.validation_step(batch, at(3))
    with torch.no_grad():
        pair = network._pair(batch, torch.Generator().manual_seed(3))
    d2 = [float((pair.q[i] - pair.q[j]).square().sum()) for i, j in itertools.combinations(range(5), 2)]
    assert float(values["uniformity"]) == pytest.approx(math.log(sum(math.exp(-2 * d) for d in d2) / len(d2)), rel=1e-4)
    assert float(values["alignment"]) == pytest.approx(float((pair.q - pair.k).square().sum() / 5), rel=1e-4)
    cosines = pair.q @ pair.k.T
    hits = sum(int(cosines[i].argmax()) == i for i in range(5))
    assert float(values["accuracy"]) == pytest.approx(hits / 5)
    assert set(values) == {"accuracy", "queue accuracy", "alignment", "uniformity"}
    assert float(network.validation_step(batch.part(0, 1), at(3))["uniformity"]) == 0.0


def test_it_learns_to_tell_volumes_apart_and_not_the_age_of_keys(make_eyes, spec):
    # in-batch accuracy of volumes never seen: all keys are equally fresh, so age is no help
    mild = ViewOptions(crop=0.8, rotate=3.0, gain=0.05, offset=0.02, tilt=0.0, blur=0.0, cutout=0.0)
    network = small(spec, queue=64, batch=16, views=mild).train()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    data, held = make_eyes(64, 1), make_eyes(32, 2)
    score = lambda: sum(float(network.eval().validation_step(held, at(900 + i))["accuracy"]) for i in range(4)) / 4
    before = score()
    for index in range(120):
        pick = torch.randperm(64, generator=torch.Generator().manual_seed(index))[:16]
        batch = Batch(data.x[pick], [data.ids[i] for i in pick])
        optimizer.zero_grad()
        next(network.train().training_step(batch, at(index, total=120))).losses["contrast"].backward()
        optimizer.step()
        network.updated("main", at(index, total=120))
    after = score()
    assert after > 10 / 32 and after > before + 0.1, (before, after)  # chance is 1 / 32


class StopAt(StopFlag):
    """Asks for a stop at the n-th look."""

    def __init__(self, n):
        self.looks, self.n = 0, n
        super().__init__()

    @property
    def requested(self):
        self.looks += 1
        return "SIGTERM" if self.looks > self.n else ""

    @requested.setter
    def requested(self, value):
        pass


def engine_fit(folder, network, batch, stop=None, **changes):
    settings = dict(steps=7, batch=4, lr=1e-3, weight_decay=1e-4, clip=1.0, checkpoint_every=3, validate_every=2)
    source = TensorSource(batch.x, ids=batch.ids)
    held = TensorSource(batch.x.flip(-1), ids=[f"held-{i}" for i in range(len(batch))])
    return fit(
        network, source, FitOptions(**{**settings, **changes}), folder=folder, stage="fit.features", seed=5,
        validation=lambda: held.batches(4), stop=stop,
    )  # fmt: skip


@pytest.mark.parametrize("norm, accumulate", [("group", 1), ("shuffled-batch", 1), ("group", 2)])
def test_an_interrupted_fit_resumes_to_the_same_bits(make_eyes, spec, tmp_path, norm, accumulate):
    batch, settings = make_eyes(9, 0), dict(norm=norm, accumulate=1)
    whole = engine_fit(tmp_path / "whole", small(spec, **settings), batch, accumulate=accumulate)
    stops = 0
    for looks in (7, 3, 12, 5, 9, 10**9):  # between steps and in the middle of them
        network = small(spec, seed=8, **settings) if stops else small(spec, **settings)
        try:
            resumed = engine_fit(tmp_path / "parts", network, batch, StopAt(looks), accumulate=accumulate)
            break
        except Stopped:
            stops += 1
    assert stops >= 2 and resumed.steps == 7 and resumed.values == whole.values
    one, two = (ckpt.open_checkpoint(tmp_path / f / "checkpoints" / "step-00000007") for f in ("whole", "parts"))
    assert one.state["files"] == two.state["files"]
    a, b = (tmp_path / f / "weights.safetensors" for f in ("whole", "parts"))
    assert a.read_bytes() == b.read_bytes()


def test_the_protocol_hashes_the_backbone_that_makes_the_features(make_eyes, spec):
    network = small(spec, train_on="both")
    before = network.protocol()
    assert before["sha256"] == weights_sha256(network.backbone) and before["train_on"] == "both"
    network.queue.zero_()
    assert network.protocol() == before
    with torch.no_grad():
        network.backbone.conv.weight += 1e-3
    assert network.protocol()["sha256"] != before["sha256"]


def test_embed_is_features_with_a_gradient(make_eyes, spec):
    network, x = small(spec).eval(), make_eyes(2, 0).x
    embedded = network.embed(x)
    assert embedded.requires_grad and torch.equal(embedded.detach(), network.features(x))


def test_triplets_need_a_depth_of_bands(spec):
    for wrong in (VolumeSpec((6, 24, 28), depth="slices"), VolumeSpec((2, 24, 28))):
        with pytest.raises(RecipeError, match='planes = "triplets": needs a depth of at least 3 bands'):
            small(wrong, planes="triplets")
    assert small(VolumeSpec((6, 24, 28), depth="slices")).takes == "volume"


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"queue": 3}, "queue = 3 cannot hold one batch of fit.batch = 4"),
        ({"norm": "shuffled-batch", "norm_groups_of": 3}, "norm_groups_of = 3: shuffling needs at least two groups"),
        ({"temperature": 0.0}, "temperature"),
        ({"train_on": "dreams"}, "train_on"),
    ],
)
def test_wrong_settings_are_one_line(wrong, message):
    with pytest.raises(ValueError, match=message):
        MocoResnet18(**{"fit": FitOptions(batch=4), **wrong})
