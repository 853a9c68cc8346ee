"""A tiny world for metrics: volumes of bands with masks, a stand-in segmenter and stand-in feature networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.condition import Conditions
from gen_core.paths.vp_path import VpPath
from gen_core.prior import DiffusionPrior
from gen_core.testing import gaussian_denoise
from gen_core.volume import VolumeSpec

D, H, W = 5, 20, 24


class Threshold:
    """Segmenter: band 0 under -0.5 is vessel, band 1 over 0.5 is onh; sure of everything."""

    classes = ("vessel", "onh")

    def eval(self):
        return self

    def probabilities(self, x):
        return torch.stack((x[:, 0, 0] < -0.5, x[:, 0, 1] > 0.5), 1).float()[:, :, None]


class Projection:
    """Features of volumes: a fixed random projection of coarse blocks, not symmetric under mirroring."""

    takes, dim = "volume", 6

    def __init__(self):
        self.matrix = torch.randn(D * 20, self.dim, generator=torch.Generator().manual_seed(7))

    def eval(self):
        return self

    def features(self, x):
        coarse = torch.nn.functional.adaptive_avg_pool3d(x, (D, 4, 5))
        return coarse.flatten(1) @ self.matrix

    def protocol(self):
        return {"name": "projection", "sha256": "0" * 64}


class Colours:
    """Features of images: mean and sd of each channel."""

    takes, dim = "image", 6

    def eval(self):
        return self

    def features(self, x):
        return torch.cat((x.mean((2, 3)), x.std((2, 3))), 1)

    def protocol(self):
        return {"name": "colours", "sha256": "1" * 64}


class Reader:
    """A probe of the label `deposits`: the logit is the brightness of some bands, which knows a little of it."""

    takes, dim = "volume", 1

    def __init__(self, bands):
        self.bands = bands

    def eval(self):
        return self

    def features(self, x):
        return x[:, :, self.bands].mean((1, 2, 3, 4))[:, None]

    def protocol(self):
        return {"name": "reader", "label": "deposits", "sha256": str(self.bands)}


class Mirror:
    """A codec whose latents are the volume, and that knows one measure of itself."""

    def encode(self, x):
        return x

    def terms(self, x, x_hat):
        return {"gap": (x - x_hat).abs().flatten(1).mean(1)}


class Bell(DiffusionPrior):
    """The exact prior of values that are all normal, mean 0.1 and sd 0.3."""

    def __init__(self):
        super().__init__()
        self.shape, self.path = (1, D, H, W), VpPath()

    def denoise(self, z_t, t, cond=None):
        return gaussian_denoise(self.path, 0.1, 0.3)(z_t, t)


def deposits(x: torch.Tensor) -> torch.Tensor:
    """(B,) 0 or 1: whether volumes are bright in the middle of some bands, more or less."""
    return (x[:, 0, 1:4, 5:15, 4:20].mean((1, 2, 3)) > 0.1).float()


def make_volumes(n: int, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """n volumes (n, 1, D, H, W) with one bright disc (onh) and one dark bar (vessel), and their masks."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    volumes, masks = [], {"vein": [], "artery": [], "onh": [], "valid": []}
    for _ in range(n):
        level = 0.2 * torch.randn(D, 1, 1, generator=g)
        field = torch.nn.functional.interpolate(torch.randn(1, 1, 4, 5, generator=g), (H, W), mode="bilinear")[0, 0]
        v = (0.1 + level + 0.1 * field + 0.03 * torch.randn(D, H, W, generator=g)).clamp(-0.4, 0.45)
        cy = 6 + int(torch.randint(0, 8, (), generator=g))
        cx = 6 + int(torch.randint(0, 10, (), generator=g))
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= 9
        row = int(torch.randint(0, H - 2, (), generator=g))
        bar = (y >= row) & (y < row + 2) & ~disc
        v = torch.where(disc, v * 0.1 + 0.75, torch.where(bar, v * 0.1 - 0.7, v))
        volumes.append(v[None])
        half = x < W // 2
        for name, m in (("vein", bar & half), ("artery", bar & ~half), ("onh", disc), ("valid", x < W - 1)):
            masks[name].append(m[None, None])
    return torch.stack(volumes), {k: torch.stack(m) for k, m in masks.items()}


@pytest.fixture(scope="session")
def world():
    """Sources of volumes with masks: name -> (x, masks, reference or None, id prefix)."""
    sources = {}
    for seed, (name, n) in enumerate({"train": 40, "val": 24, "synthetic": 22}.items()):
        x, masks = make_volumes(n, seed)
        sources[name] = (x, masks if name != "synthetic" else {}, None, name[0])
    soft = lambda x: torch.nn.functional.avg_pool3d(x, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    for name, origin in (("reconstruction", "val"), ("reconstruction-train", "train")):
        x, masks, _, prefix = sources[origin]
        sources[name] = (0.3 * soft(x) + 0.7 * x, masks, x, prefix)
    return sources


@pytest.fixture(scope="session")
def batches(world):
    """batches(source, size, order=None): the source's volumes as batches."""

    def make(source: str, size: int, order: list[int] | None = None) -> list[Batch]:
        x, masks, reference, prefix = world[source]
        order = list(range(len(x))) if order is None else order
        found = []
        for start in range(0, len(order), size):
            i = order[start : start + size]
            found.append(
                Batch(
                    x[i],
                    ids=[f"{prefix}{j:03d}" for j in i],
                    reference=None if reference is None else reference[i],
                    masks={k: m[i] for k, m in masks.items()},
                    condition={"deposits": deposits(x[i])} if source in ("train", "val") else {},
                )
            )
        return found

    return make


@pytest.fixture
def context(world):
    """A metric context over the stand-ins."""
    networks = {"features": Projection(), "colours": Colours()}
    networks |= {"features.real": Reader([0]), "features.both": Reader([0, 4]), "features.none": Reader([3])}
    return SimpleNamespace(
        spec=VolumeSpec((D, H, W), wavelength_nm=(450.0, 500.0, 540.0, 600.0, 700.0)),
        seed=3,
        device=torch.device("cpu"),
        counts={k: len(v[0]) for k, v in world.items()},
        real_splits_disjoint=True,
        cost={"sample": {"seconds": 4.0, "volumes": 22, "decode_seconds": 1.0}, "prepare": {"seconds": 2.0}},
        features=networks.__getitem__,
        segmenter=lambda table: Threshold(),
        codec=Mirror,
        prior=Bell,
        conditions=lambda batch: Conditions(),
    )


@pytest.fixture
def feed(batches):
    """feed(metric, size=8): the metric after all its sources."""

    def run(metric, size: int = 8):
        for source in metric.sources:
            for batch in batches(source, size):
                metric.update(batch, source)
        return metric

    return run


@pytest.fixture
def one():
    """one(result, name, source, against=None): the single value of that name."""

    def find(result, name: str, source: str, against: str | None = None):
        hits = [v for v in result.values if v.name == name and v.source == source and against in (None, v.against)]
        assert len(hits) == 1, f"{name}/{source}: {len(hits)} values"
        return hits[0]

    return find
