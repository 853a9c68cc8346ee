"""Checks of what the engine fits: each passes a good component and names what is wrong with a bad one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gen_core.batch import Batch
from gen_core.codec import Codec, LatentSpec
from gen_core.condition import Conditions
from gen_core.features import FeatureNetwork
from gen_core.prior import DiffusionPrior, DirectPrior, Prior
from gen_core.segmenter import Segmenter
from gen_core.testing import (
    LinearPath,
    check_codec,
    check_features,
    check_prior,
    check_segmenter,
    check_trainable,
)
from gen_core.trainable import GroupLoss, Trainable

B, C, D, H, W = 3, 2, 4, 6, 8


def volumes(n: int = B) -> torch.Tensor:
    return torch.rand(n, C, D, H, W, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch(n: int = B, **more) -> Batch:
    names = [f"v{i}" for i in range(n)]
    return Batch(x=volumes(n), ids=names, subjects=names, hashes=names, **more)


# trainables


class Good(Trainable):
    """Two groups, noise from the generator, a counter in the extra state and a running mean in a buffer."""

    def __init__(self):
        super().__init__()
        self.g, self.d = nn.Linear(W, W), nn.Linear(W, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.count = 0

    def groups(self):
        return {"g": [self.g], "d": [self.d]}

    def training_step(self, batch, step):
        eps = torch.randn(batch.x.shape, generator=step.generator)
        x_hat = self.g(batch.x + 0.1 * eps)
        yield GroupLoss("g", {"l2": (x_hat - batch.x).square().mean() * (1 + 0.1 * self.count)})
        yield GroupLoss("d", {"d": self.d(x_hat.detach()).square().mean() + self.mean})

    def updated(self, group, step):
        self.count += group == "g"
        self.mean += 0.1

    def validation_step(self, batch, step):
        return {"l2": (self.g(batch.x) - batch.x).square().mean()}

    def extra_state(self):
        return {"count": self.count}

    def load_extra_state(self, state):
        self.count = state["count"]


class LeavesOut(Good):
    def groups(self):
        return {"g": [self.g]}

    def training_step(self, batch, step):
        yield next(iter(super().training_step(batch, step)))


class Shares(Good):
    def groups(self):
        return {"g": [self], "d": [self.d]}


class UnknownGroup(Good):
    def training_step(self, batch, step):
        for item in super().training_step(batch, step):
            yield GroupLoss("x" if item.group == "d" else "g", item.losses)


class Twice(Good):
    def training_step(self, batch, step):
        for _ in range(2):
            yield from super().training_step(batch, step)


class OwnNoise(Good):
    def training_step(self, batch, step):
        yield GroupLoss("g", {"l2": (self.g(batch.x) + torch.randn(W)).square().mean()})


class Forgets(Good):
    def load_extra_state(self, state):
        pass


class ForgetsQuietly(Good):
    def extra_state(self):
        return {}

    def load_extra_state(self, state):
        self.count = 0


class Validates(Good):
    def validation_step(self, batch, step):
        self.mean += 1
        return super().validation_step(batch, step)


class Cut(Good):
    def training_step(self, batch, step):
        yield GroupLoss("g", {"l2": self.d(batch.x).square().mean()})


class NoGradient(Good):
    def training_step(self, batch, step):
        yield GroupLoss("g", {"l2": batch.x.mean()})


class Vector(Good):
    def training_step(self, batch, step):
        yield GroupLoss("g", {"l2": self.g(batch.x).mean((1, 2, 3, 4))})


class Nan(Good):
    def training_step(self, batch, step):
        yield GroupLoss("g", {"l2": self.g(batch.x).mean() * float("nan")})


class NotJson(Good):
    def extra_state(self):
        return {"count": torch.zeros(1)}


class WrongEma(Good):
    def ema_groups(self):
        return ("h",)


class Silent(Good):
    def training_step(self, batch, step):
        yield from ()


def test_a_good_trainable_passes_and_is_left_alone():
    torch.manual_seed(0)
    module = Good()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    check_trainable(module, batch())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items()) and module.count == 0


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LeavesOut, "no group holds 'd.weight'"),
        (Shares, "share a parameter"),
        (UnknownGroup, "unknown group 'x'"),
        (Twice, "yields group 'g' twice"),
        (OwnNoise, "draw all random numbers from step.generator"),
        (Forgets, r"do not bring back extra_state\(\)"),
        (ForgetsQuietly, "goes on differently after a resume"),
        (Validates, "Validates.validation_step changes the state of Validates: mean"),
        (Cut, "do not reach its parameters"),
        (NoGradient, "have no gradient"),
        (Vector, "not a scalar"),
        (Nan, "loss 'l2' is nan"),
        (NotJson, "extra_state.* is not JSON"),
        (WrongEma, "unknown groups"),
        (Silent, "yields nothing"),
    ],
)
def test_a_bad_trainable_is_told_in_one_sentence(cls, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message) as caught:
        check_trainable(cls(), batch())
    assert "\n" not in str(caught.value)


# codecs


class GoodCodec(Codec):
    """Pixels in blocks of 1 x 2 x 2 to three channels and back, with tokens from the sign of the channels."""

    latent = LatentSpec(3, (1, 2, 2), tokens=8)

    def __init__(self):
        super().__init__()
        self.down = nn.Conv3d(C, 3, (1, 2, 2), (1, 2, 2))
        self.up = nn.ConvTranspose3d(3, C, (1, 2, 2), (1, 2, 2))
        self.register_buffer("sd", torch.ones(3))

    def encode(self, x):
        return self.down(x) / self.sd.view(1, -1, 1, 1, 1)

    def decode(self, z):
        return self.up(z * self.sd.view(1, -1, 1, 1, 1)).clamp(-1, 1)

    def calibrate(self, batches):
        self.sd.copy_(torch.cat([self.down(b.x) for b in batches]).std((0, 2, 3, 4)))
        return {"sd": self.sd.mean().item()}

    def encode_tokens(self, x):
        return sum((self.encode(x)[:, k] > 0).long() << k for k in range(3))

    def decode_tokens(self, idx):
        return self.decode(torch.stack([(idx >> k & 1).float() * 2 - 1 for k in range(3)], 1))

    def training_step(self, batch, step):
        yield GroupLoss("main", {"l2": (self.up(self.down(batch.x)) - batch.x).square().mean()})


class WrongShape(GoodCodec):
    latent = LatentSpec(3, (1, 2, 4))


class Random(GoodCodec):
    def encode(self, x):
        return super().encode(x) + torch.randn(())


class Unclamped(GoodCodec):
    def decode(self, z):
        return self.up(z) * 20


class Mutates(GoodCodec):
    def decode(self, z):
        self.sd *= 1.01
        return super().decode(z)


class InPlace(GoodCodec):
    def encode(self, x):
        return super().encode(x.mul_(0.5))


class BatchMean(GoodCodec):
    def encode(self, x):
        return super().encode(x - x.mean())


class Bounded(GoodCodec):
    latent = LatentSpec(3, (1, 2, 2), bounds=(-0.01, 0.01))


class WrongTokens(GoodCodec):
    latent = LatentSpec(3, (1, 2, 2), tokens=4)


class FloatTokens(GoodCodec):
    def encode_tokens(self, x):
        return super().encode_tokens(x).float()


class HalfLatents(GoodCodec):
    def encode(self, x):
        return super().encode(x).bfloat16()


def test_a_good_codec_passes():
    torch.manual_seed(0)
    check_codec(GoodCodec(), volumes())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongShape, r"WrongShape.encode: shape \(3, 3, 4, 3, 4\), expected \(3, 3, 4, 3, 2\)"),
        (Random, "Random.encode is not deterministic"),
        (Unclamped, r"decode leaves \[-1, 1\]"),
        (Mutates, "Mutates.decode changes the state of Mutates: sd"),
        (InPlace, "encode changes its input in place"),
        (BatchMean, "encode: a sample depends on the others of its batch"),
        (Bounded, "lie far outside latent.bounds"),
        (WrongTokens, "encode_tokens: 0..7 leaves 0..3"),
        (FloatTokens, "encode_tokens gives torch.float32, not int64"),
        (HalfLatents, "encode gives torch.bfloat16, expected float32"),
    ],
)
def test_a_bad_codec_is_told_in_one_sentence(cls, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message):
        check_codec(cls(), volumes())


# priors


class GoodPrior(DiffusionPrior):
    """z_0 from one channel mix with a time weight."""

    shape = (3, 2, 4, 5)

    def __init__(self):
        super().__init__()
        self.path, self.mix = LinearPath(), nn.Conv3d(3, 3, 1)

    def denoise(self, z_t, t, cond=None):
        wide = lambda v: v.float().view(-1, 1, 1, 1, 1)
        alpha, sigma = wide(self.path.alpha(t.double())), wide(self.path.sigma(t.double()))
        z_0 = self.mix(z_t) * wide(1 - t) + (0 if cond is None else wide(cond.values["class"]))
        return z_0, (z_t - alpha * z_0) / sigma

    def training_step(self, batch, step):
        t = torch.rand(len(batch), generator=step.generator) * 0.9 + 0.05
        z_0, _ = self.denoise(batch.x, t)
        yield GroupLoss("main", {"mse": (z_0 - batch.x).square().mean()})


class Unrelated(GoodPrior):
    def denoise(self, z_t, t, cond=None):
        z_0, eps = super().denoise(z_t, t, cond)
        return z_0, eps * 1.1


class TimeBlind(GoodPrior):
    def denoise(self, z_t, t, cond=None):
        wide = lambda v: v.float().view(-1, 1, 1, 1, 1)
        z_0 = self.mix(z_t)
        return z_0, (z_t - wide(self.path.alpha(t.double())) * z_0) / wide(self.path.sigma(t.double()))


class Detached(GoodPrior):
    @torch.no_grad()
    def denoise(self, z_t, t, cond=None):
        return super().denoise(z_t, t, cond)


class FirstTime(GoodPrior):
    def denoise(self, z_t, t, cond=None):
        z_0 = self.mix(z_t) * (1 - t[0])
        wide = lambda v: v.float().view(-1, 1, 1, 1, 1)
        return z_0, (z_t - wide(self.path.alpha(t.double())) * z_0) / wide(self.path.sigma(t.double()))


class Normal(DirectPrior):
    shape = (3, 2, 4, 5)

    def noise_shape(self, n):
        return (n, *self.shape)

    def draw(self, noise, cond=None, **options):
        return noise * 1.0


class NormalOfOne(Normal):
    def noise_shape(self, n):
        return self.shape


class Whitened(Normal):
    def draw(self, noise, cond=None, **options):
        return noise / noise.std()


def test_good_priors_pass():
    torch.manual_seed(0)
    check_prior(GoodPrior())
    classes = Conditions({"class": torch.tensor([0.0, 1.0, 2.0])}, {"class": torch.ones(3, dtype=torch.bool)})
    check_prior(GoodPrior(), cond=classes)
    check_prior(Normal())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Unrelated, r"alpha z_0 \+ sigma eps is not z_t"),
        (TimeBlind, "the network does not look at t"),
        (Detached, "not differentiable in z_t"),
        (FirstTime, "a sample depends on the others of its batch"),
        (NormalOfOne, r"noise_shape\(7\) is \(3, 2, 4, 5\); expected \(n, ...\)"),
        (Whitened, "a sample depends on the others of its batch"),
        (type("Neither", (Prior,), {"shape": (1, 1, 1, 1)}), "neither a DiffusionPrior nor a DirectPrior"),
        (type("Flat", (Normal,), {"shape": (5,)}), "shape is"),
    ],
)
def test_a_bad_prior_is_told_in_one_sentence(cls, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message):
        check_prior(cls())


# feature networks and segmenters


class GoodFeatures(FeatureNetwork):
    takes, dim = "volume", 2 * C

    def features(self, x):
        return torch.cat([x.mean((2, 3, 4)), x.std((2, 3, 4))], 1)

    def protocol(self):
        return {"name": "moments"}


class Constant(GoodFeatures):
    def features(self, x):
        return torch.ones(len(x), self.dim)


class NoProtocol(GoodFeatures):
    def protocol(self):
        return {}


class WrongDim(GoodFeatures):
    dim = 3


class TakesSound(GoodFeatures):
    takes = "sound"


def test_a_good_feature_network_passes():
    check_features(GoodFeatures(), volumes())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Constant, "two different inputs have the same features"),
        (NoProtocol, "nobody could reproduce"),
        (WrongDim, r"shape \(3, 4\), expected \(3, 3\)"),
        (TakesSound, "expected 'image' or 'volume'"),
        (type("TakesImages", (GoodFeatures,), {"takes": "image"}), "takes a image; x is"),
    ],
)
def test_a_bad_feature_network_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_features(cls(), volumes())


class GoodSegmenter(Segmenter):
    classes = ("vein", "disc")

    def __init__(self):
        super().__init__()
        self.net = nn.Conv3d(C, 2, 1)

    def probabilities(self, x):
        return self.net(x).mean(2, keepdim=True).sigmoid()

    def training_step(self, batch, step):
        p = self.probabilities(batch.x)[:, :1, 0]
        yield GroupLoss("main", {"l2": (p - batch.masks["vein"][:, :, 0].float()).square().mean()})


class Logits(GoodSegmenter):
    def probabilities(self, x):
        return self.net(x) * 9


class ThreeClasses(GoodSegmenter):
    classes = ("vein", "disc", "artery")


def test_segmenters_are_checked():
    masked = batch(masks={"vein": volumes()[:, :1, :1] > 0})
    torch.manual_seed(0)
    check_segmenter(GoodSegmenter(), masked)
    with pytest.raises(AssertionError, match=r"leaves \[0, 1\]"):
        check_segmenter(Logits(), masked)
    with pytest.raises(AssertionError, match=r"probabilities: shape \(3, 2, 1, 6, 8\), expected \(3, 3, 4, 6, 8\)"):
        check_segmenter(ThreeClasses(), masked)
