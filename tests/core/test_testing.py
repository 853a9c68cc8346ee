"""The contract checks: each passes a good component and names what is wrong with a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gen_core.batch import Batch
from gen_core.codec import Codec, LatentSpec
from gen_core.dataset import Dataset, Split
from gen_core.errors import DataError
from gen_core.features import FeatureNetwork
from gen_core.metric import Metric, Result, Value
from gen_core.prior import DiffusionPrior, DirectPrior, Prior
from gen_core.report import Report
from gen_core.sampler import Sampler
from gen_core.segmenter import Segmenter
from gen_core.testing import (
    LinearPath,
    check_codec,
    check_dataset,
    check_features,
    check_metric,
    check_path,
    check_prior,
    check_reader,
    check_report,
    check_sampler,
    check_segmenter,
    check_trainable,
    check_writer,
    gaussian_denoise,
)
from gen_core.trainable import GroupLoss, Trainable
from gen_core.volume import Sample, VolumeSpec, content_hash
from gen_core.writer import RawVolume, Reader, Writer
from torch import nn

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


# paths and samplers


def test_the_linear_path_keeps_the_relations():
    check_path(LinearPath())
    check_path(LinearPath(0.5, 8.0))


def test_the_linear_path_agrees_with_the_integral_of_beta():
    # Song et al. 2021, eq. 29: alpha = exp(-1/2 integral of beta), by the trapezoid rule, exact for a linear beta
    path, n = LinearPath(), 1000
    t = torch.linspace(0, 0.7, n + 1, dtype=torch.float64)
    beta = 0.1 + 19.9 * t
    integral = torch.trapezoid(beta, t)
    assert torch.isclose(path.alpha(t[-1]), (-0.5 * integral).exp(), rtol=1e-10)
    assert torch.isclose(path.alpha(t[-1]) ** 2 + path.sigma(t[-1]) ** 2, torch.ones((), dtype=torch.float64))


class WrongDrift(LinearPath):
    def drift(self, t):
        return super().drift(t) * 1.01


class WrongDiffusion(LinearPath):
    def diffusion2(self, t):
        return super().diffusion2(t) + 0.1


class WrongInverse(LinearPath):
    def log_snr_inverse(self, value):
        return super().log_snr_inverse(value) + 1e-4


class HalfSnr(LinearPath):
    def log_snr(self, t):
        return super().log_snr(t) / 2


class RisingGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).flip(0)


class ShortGrid(LinearPath):
    def grid(self, n):
        return super().grid(n)[:-1]


class SingleGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).float()


class SingleAlpha(LinearPath):
    def alpha(self, t):
        return super().alpha(t.float())


class LateGrid(LinearPath):
    def grid(self, n):
        return super().grid(n).clamp_min(1e-3)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WrongDrift, "drift is not d ln alpha / dt"),
        (WrongDiffusion, r"diffusion2 is not d sigma\^2/dt - 2 f sigma\^2"),
        (WrongInverse, r"log_snr_inverse\(log_snr\(t\)\) is not t"),
        (HalfSnr, r"log_snr is not ln\(alpha\^2 / sigma\^2\)"),
        (RisingGrid, "does not fall"),
        (ShortGrid, "has 1 times, expected 2"),
        (SingleGrid, "grid is torch.float32, expected float64"),
        (SingleAlpha, "alpha.* is torch.float32"),
        (LateGrid, r"runs 1..0.001, not 1..0"),
    ],
)
def test_a_bad_path_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_path(cls())


class GoodSampler(Sampler):
    """DDIM with eta: eq. 12 of Song et al. 2021 (DDIM), written for any alpha and sigma."""

    steps, eta = 20, 1.0

    def sample(self, denoise, path, z, ts, noise):
        for k, (t, s) in enumerate(zip(ts[:-1], ts[1:])):
            z_0, eps = denoise(z, t.expand(len(z)))
            a, b, c, d = (f(u).float() for f in (path.alpha, path.sigma) for u in (t, s))
            # a, b: alpha at t and s; c, d: sigma at t and s
            var = (self.eta * d / c) ** 2 * (1 - (a / b) ** 2) if s > 0 else torch.zeros(())
            z = b * z_0 + (d**2 - var).clamp_min(0).sqrt() * eps
            if s > 0 and self.eta:
                z = z + var.sqrt() * noise(k)
        return z


class Deterministic(GoodSampler):
    eta = 0.0


class Biased(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, noise) + 0.1


class Narrow(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: 0.5 * noise(k))


class GlobalNoise(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: noise(k) * 0 + torch.randn(z.shape))


class SkipsNoise(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, lambda k: noise(k + 1))


class WritesZ(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z.mul_(1.0001), ts, noise)


class DoubleZ(GoodSampler):
    def sample(self, denoise, path, z, ts, noise):
        return super().sample(denoise, path, z, ts, noise).double()


class NoSteps(GoodSampler):
    steps = 0


@pytest.mark.parametrize("cls", [GoodSampler, Deterministic])
def test_a_good_sampler_passes(cls):
    check_sampler(cls())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Biased, "mean 0.5.* of a target with 0.4"),
        (Narrow, "standard deviation .* of a target with 0.6"),
        (GlobalNoise, "depend on their neighbours, or on random numbers"),
        (SkipsNoise, r"calls noise\(k\) with k = \[1, 2"),
        (WritesZ, "changes its input z in place"),
        (DoubleZ, "gives torch.float64"),
        (NoSteps, "steps must be an integer from 1"),
    ],
)
def test_a_bad_sampler_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(cls())


def test_the_gaussian_denoiser_is_the_posterior_mean():
    # against brute force: the mean of z_0 over a fine grid, weighted by prior and likelihood
    path, m, s = LinearPath(), 0.4, 0.6
    t, z_t = torch.tensor([0.3], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    a, sigma = path.alpha(t), path.sigma(t)
    z_0 = torch.linspace(-6, 7, 20001, dtype=torch.float64)
    log_w = -((z_0 - m) ** 2) / (2 * s**2) - (z_t[0, 0] - a * z_0) ** 2 / (2 * sigma**2)
    expected = (torch.softmax(log_w, 0) * z_0).sum()
    got, eps = gaussian_denoise(path, m, s)(z_t, t)
    assert torch.isclose(got[0, 0], expected, atol=1e-9)
    assert torch.isclose(a[0] * got[0, 0] + sigma[0] * eps[0, 0], z_t[0, 0])


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
        z_0 = self.mix(z_t) * wide(1 - t) + (0 if cond is None else wide(cond["class"]))
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
    check_prior(GoodPrior(), cond={"class": torch.tensor([0.0, 1.0, 2.0])})
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
    with pytest.raises(
        AssertionError, match=r"probabilities: shape \(3, 2, 1, 6, 8\), expected \(3, 3, 4, 6, 8\)"
    ):
        check_segmenter(ThreeClasses(), masked)


# data sets


class Numbers(Dataset):
    """Noise volumes, four of training and two of validation."""

    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"), masks=("top",), depth="slices")
    names = {"train": ("s0", "s1", "s2", "s3"), "val": ("s4", "s5")}

    def split(self, name):
        return NumbersSplit(self, self.names[name])

    def read(self, name):
        rng = np.random.default_rng(int(name[1:]))
        x = rng.uniform(-1, 1, self.spec.shape).astype(np.float32)
        top = np.zeros((1, H, W), bool)
        top[:, : H // 2] = True
        return Sample(x, name, name, content_hash(x), masks={"top": top})


class NumbersSplit(Split):
    def __init__(self, data, names):
        self.data, self.names = data, names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        return self.data.read(self.names[i])

    def view(self, i, draw):
        sample = self[i]
        return self.data.flip(sample) if draw % 2 and hasattr(self.data, "flip") else sample


class Overlap(Numbers):
    names = {"train": ("s0", "s1"), "val": ("s1", "s2")}


class Empty(Numbers):
    names = {"train": ("s0",), "val": ()}


class OneSubject(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.subject = "only"
        return sample


class SharedSubject(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.subject = "s0" if name in ("s0", "s5") else name
        return sample


class Cached(Numbers):
    def __init__(self):
        self.kept = {}

    def read(self, name):
        return self.kept.setdefault(name, super().read(name))


class Drifts(Numbers):
    count = 0

    def read(self, name):
        sample = super().read(name)
        Drifts.count += 1
        sample.x[0, 0, 0, 0] = 1 / Drifts.count
        return sample


class TooLarge(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.x *= 2
        return sample


class Unlisted(Numbers):
    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"))


class RandomViews(Numbers):
    def flip(self, sample):
        sample.x = sample.x * np.float32(np.random.uniform())
        return sample


class LosesMasks(Numbers):
    def flip(self, sample):
        sample.masks = {}
        return sample


class FallingBands(Numbers):
    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"), masks=("top",), wavelength_nm=(4.0, 3.0, 2.0, 1.0))


@pytest.mark.parametrize("cls", [Numbers, OneSubject])
def test_a_good_data_set_passes(cls):
    check_dataset(cls())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Overlap, "id 's1' is in both 'train' and 'val'"),
        (SharedSubject, "subject 's0' is in both"),
        (Empty, r"split\('val'\) is empty"),
        (Cached, "not the same when read again"),
        (Drifts, "not the same when read again"),
        (TooLarge, r"values leave \[-1, 1\]"),
        (Unlisted, r"spec.masks does not name \['top'\]"),
        (RandomViews, r"not a function of \(seed, i, draw\)"),
        (LosesMasks, "has other masks than the volume"),
        (FallingBands, "wavelength_nm does not rise"),
    ],
)
def test_a_bad_data_set_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(cls())


# readers and writers


class GoodWriter(Writer):
    def write(self, stem, volume, spec, info):
        from gen_core import atomic

        file = stem.with_name(stem.name + ".raw")
        atomic.write_bytes(file, volume.astype("<f4").tobytes())
        side = stem.with_name(stem.name + ".json")
        atomic.write_json(side, {"shape": volume.shape, **info})
        return [file, side]


class LeavesPartial(GoodWriter):
    def write(self, stem, volume, spec, info):
        (stem.parent / "x.partial7").write_text("x")
        return super().write(stem, volume, spec, info)


class NamesAbsent(GoodWriter):
    def write(self, stem, volume, spec, info):
        return [*super().write(stem, volume, spec, info), stem.with_suffix(".hdr")]


class Elsewhere(GoodWriter):
    def write(self, stem, volume, spec, info):
        return super().write(stem.parent / "volume", volume, spec, info)


class Scales(GoodWriter):
    def write(self, stem, volume, spec, info):
        volume /= 2
        return super().write(stem, volume, spec, info)


class Rounds(GoodWriter):
    def write(self, stem, volume, spec, info):
        return super().write(stem, volume.round(), spec, info)


def read_raw(path: Path) -> np.ndarray:
    shape = json.loads(path.with_suffix(".json").read_text())["shape"]
    return np.frombuffer(path.read_bytes(), "<f4").reshape(shape)


def test_a_good_writer_passes(tmp_path):
    check_writer(GoodWriter(), tmp_path, read=read_raw)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LeavesPartial, r"leaves files it does not name: \['x.partial7'\]"),
        (NamesAbsent, "sample-000003.hdr, which is not there"),
        (Elsewhere, "not beside the stem"),
        (Scales, "changes the volume it is given"),
        (Rounds, "other values are read back"),
    ],
)
def test_a_bad_writer_is_told_in_one_sentence(cls, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        check_writer(cls(), tmp_path, read=read_raw)


class GoodReader(Reader):
    def recognizes(self, path):
        return path.is_file() and path.read_bytes()[:3] == b"CUB"

    def open(self, path, **options):
        if not self.recognizes(path):
            raise DataError(f"{path}: no cube file")
        data = path.read_bytes()[3:]
        if len(data) != 24:
            raise DataError(f"{path}: {len(data)} bytes, expected 24")
        return RawVolume(np.frombuffer(data, np.uint8).reshape(2, 3, 4), "byx", np.array([500.0, 600.0]))


class Trusting(GoodReader):
    def open(self, path, **options):
        data = path.read_bytes()[3:].ljust(24)[:24]
        return RawVolume(np.frombuffer(data, np.uint8).reshape(2, 3, 4), "byx")


class Anonymous(GoodReader):
    def open(self, path, **options):
        try:
            return super().open(path)
        except DataError:
            raise DataError("no cube file") from None


class RaisesInRecognizes(GoodReader):
    def recognizes(self, path):
        return path.read_bytes()[:3] == b"CUB"


class TwoAxes(GoodReader):
    def open(self, path, **options):
        raw = super().open(path)
        raw.axes = "yx"
        return raw


class ManyWavelengths(GoodReader):
    def open(self, path, **options):
        raw = super().open(path)
        raw.wavelength_nm = np.arange(3.0)
        return raw


@pytest.fixture
def cube(tmp_path):
    path = tmp_path / "x.cub"
    path.write_bytes(b"CUB" + bytes(range(24)))
    return path


def test_a_good_reader_passes(cube):
    check_reader(GoodReader(), cube, np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    with pytest.raises(AssertionError, match="other values than the file holds"):
        check_reader(GoodReader(), cube, np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Trusting, "raises FileNotFoundError"),
        (Anonymous, "does not name the file absent.cub"),
        (RaisesInRecognizes, "recognizes raises FileNotFoundError"),
        (TwoAxes, "axes 'yx' do not name the 3 axes"),
        (ManyWavelengths, "wavelength_nm is not one value for 2 bands"),
    ],
)
def test_a_bad_reader_is_told_in_one_sentence(cls, message, cube):
    with pytest.raises(AssertionError, match=message):
        check_reader(cls(), cube)


# metrics and reports


class GoodMetric(Metric):
    sources = ("val", "synthetic")

    def __init__(self):
        self.means: dict[str, dict[str, float]] = {"val": {}, "synthetic": {}}

    def update(self, batch, source):
        self.means[source] |= dict(zip(batch.ids, batch.x.double().mean((1, 2, 3, 4)).tolist()))

    def merge(self, other):
        for source, values in other.means.items():
            self.means[source] |= values

    def compute(self):
        a, b = (np.mean([v for _, v in sorted(self.means[s].items())]) for s in ("synthetic", "val"))
        return Result(
            [Value("gap", float(a - b), "synthetic", "val", n=3)], {"definition": "difference of means"}
        )


class LastBatch(GoodMetric):
    def update(self, batch, source):
        self.means[source] = {}
        super().update(batch, source)


class BatchMeans(GoodMetric):
    def update(self, batch, source):
        self.means[source][batch.ids[0]] = batch.x.double().mean().item() * len(batch) ** 0.5


class NoProtocolMetric(GoodMetric):
    def compute(self):
        return Result(super().compute().values)


class NotANumber(GoodMetric):
    def compute(self):
        return Result([Value("gap", float("nan"))], {"a": 1})


class HalfInterval(GoodMetric):
    def compute(self):
        return Result([Value("gap", 1.0, low=0.0)], {"a": 1})


class BadMerge(GoodMetric):
    def merge(self, other):
        self.means = other.means


class Counts(GoodMetric):
    calls = 0

    def compute(self):
        self.calls += 1
        return Result([Value("gap", float(self.calls))], {"a": 1})


class Spoils(GoodMetric):
    def update(self, batch, source):
        batch.x.mul_(0.5)
        super().update(batch, source)


class WrongSource(GoodMetric):
    sources = ("val", "fake")


def pairs():
    return [
        ("val", batch(3)),
        ("synthetic", batch(2)),
        ("synthetic", Batch(volumes(5)[2:], ids=["v2", "v3", "v4"])),
    ]


def test_a_good_metric_passes():
    check_metric(GoodMetric, pairs())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LastBatch, "depends on the order of batches"),
        (BatchMeans, "depends on the size of batches"),
        (NoProtocolMetric, "protocol is empty"),
        (NotANumber, "value 'gap' is nan"),
        (HalfInterval, "an interval has two ends"),
        (BadMerge, "merge gives another result"),
        (Counts, "another result the second time"),
        (Spoils, "update changes the batch"),
        (WrongSource, r"sources names \['fake'\]"),
    ],
)
def test_a_bad_metric_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_metric(cls, pairs())


class GoodReport(Report):
    head = '<a href="https://example.org">paper</a>'

    def write(self, run, path):
        path.write_text(f"<html>{self.head}{run.name} {run.metrics.get('fid', '-')}</html>")
        return [path]


class Remote(GoodReport):
    head = '<script src="https://cdn.example.org/x.js"></script>'


class Demanding(GoodReport):
    def write(self, run, path):
        return [path] if run.metrics["fid"] else []


class Nameless(GoodReport):
    def write(self, run, path):
        path.write_text("<html></html>")
        return [path]


def test_reports_are_checked(tmp_path):
    check_report(GoodReport(), tmp_path)
    with pytest.raises(AssertionError, match="the page loads from the network"):
        check_report(Remote(), tmp_path)
    with pytest.raises(AssertionError, match="fails on an empty run: KeyError"):
        check_report(Demanding(), tmp_path)
    with pytest.raises(AssertionError, match="does not name the run 'empty'"):
        check_report(Nameless(), tmp_path)
