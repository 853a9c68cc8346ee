"""Each distance moves the right way under worse and worse faults: a small world for `benchmarks/sensitivity.py`."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.metric import Value
from gen_core.volume import VolumeSpec
from gen_features.random_conv64 import RandomConv64
from gen_metrics import metric_options as opt
from gen_metrics.fid import Fid
from gen_metrics.hyperspectral_fid import HyperspectralFid
from gen_metrics.kid import Kid
from gen_metrics.memorization import Memorization
from gen_metrics.prdc import Prdc
from gen_metrics.psnr import Psnr
from gen_metrics.ssim import Ssim

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "sensitivity.py"
D, H, W = 5, 20, 24


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("sensitivity_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def eyes(n, seed):
    """n volumes (n, 1, D, H, W): smooth pictures with a spectrum and a brightness of their own, and dark lines."""
    g = torch.Generator().manual_seed(seed)
    field = torch.nn.functional.interpolate(torch.randn(n, 1, 5, 6, generator=g), (H, W), mode="bilinear")[:, :, None]
    rise = torch.linspace(-0.5, 0.5, D).square()[:, None, None] * (2 + 0.3 * torch.randn(n, 1, 1, 1, 1, generator=g))
    x = 0.2 * torch.randn(n, 1, 1, 1, 1, generator=g) + rise - 0.3 + 0.1 * field
    at = torch.randint(2, H - 2, (n,), generator=g)
    line = (torch.arange(H)[None, :, None] - at[:, None, None]).abs() < 1
    return (x - 0.4 * line[:, None, None] * (1 - rise)).clamp(-1, 1) + 0.01 * torch.randn(n, 1, D, H, W, generator=g)


@pytest.fixture(scope="module")
def world(study):
    batch = lambda x, p: Batch(x, ids=[f"{p}{i:03d}" for i in range(len(x))], hashes=[f"{p}{i}" for i in range(len(x))])
    pool = eyes(160, 2)
    return study.World(batch(eyes(80, 0), "t"), batch(eyes(80, 1), "v"), pool[:80], pool)


# metric: class, options, and (score, source, fault) -> what the study's table says of it
CASES = {
    "fid": (
        Fid,
        opt.Fid(extrapolate=False),
        {
            ("fid", "reconstruction", "noise"): "rises",
            ("fid", "synthetic", "noise"): "rises",
        },
    ),
    "hyperspectral-fid": (
        HyperspectralFid,
        opt.HyperspectralFid(triplets=6, extrapolate=False),
        {
            ("hyperspectral-fid", "reconstruction", "noise"): "rises",
            ("hyperspectral-fid", "reconstruction", "band shift"): "rises",
            ("hyperspectral-fid", "synthetic", "noise"): "rises",
            ("hyperspectral-fid", "synthetic", "band shift"): "rises",
        },
    ),
    "kid": (
        Kid,
        opt.Kid(),
        {
            ("kid", "reconstruction", "noise"): "rises",
            ("kid", "synthetic", "noise"): "rises",
        },
    ),
    "prdc": (
        Prdc,
        opt.Prdc(),
        {
            ("precision", "synthetic", "noise"): "seen",
            ("density", "synthetic", "noise"): "seen",
            ("coverage", "synthetic", "noise"): "seen",
            ("recall", "synthetic", "mode dropping"): "seen",
            ("coverage", "synthetic", "mode dropping"): "seen",
            ("precision", "synthetic", "mode dropping"): "-",  # what is left is as real as before
        },
    ),
    "ssim": (Ssim, opt.Ssim(), {("ssim", "reconstruction", f): "falls" for f in ("blur", "noise", "band shift")}),
    "psnr": (Psnr, opt.Psnr(), {("psnr", "reconstruction", f): "falls" for f in ("blur", "noise", "band shift")}),
    "memorization": (
        Memorization,
        opt.Memorization(planted=0),
        {
            ("copies, share", "synthetic", "copying"): "rises",
            ("nearest training distance, median", "synthetic", "copying"): "falls",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_move_the_right_way_at_each_severity(name, study, world):
    cls, options, wanted = CASES[name]
    network = RandomConv64()
    context = SimpleNamespace(
        spec=VolumeSpec((D, H, W)), seed=0, counts={"train": 80}, cost={}, features=lambda table: network
    )
    faults = tuple({fault: None for _, _, fault in wanted})
    table = study.rows(name, study.scores(lambda: cls(options, context), world, faults))
    found = {(score, source, fault): table[name, score, source][fault] for score, source, fault in wanted}
    same = lambda got, want: got == want or (want == "seen" and got in ("rises", "falls"))
    assert [key for key in wanted if not same(found[key], wanted[key])] == [], study.markdown(table, "")
    assert "wrong way" not in {table[name, score, source][fault] for score, source, fault in wanted}


def test_a_fault_of_no_severity_is_none(study, world):
    for fault in study.FAULTS:
        assert torch.equal(world.samples(fault, 0).x, world.clean)
        assert not torch.equal(world.samples(fault, 1).x, world.clean)


@pytest.mark.parametrize(
    "better, values, said",
    [
        ("lower", (1, 2, 3, 4, 5, 6), "rises"),
        ("higher", (6, 5, 4, 3, 2, 1), "falls"),
        ("lower", (1, 2, 1.5, 4, 5, 6), "seen"),
        ("lower", (1, 1, 1, 1, 1, 1.1), "-"),
        ("lower", (1, 1, 1, 1, 1, 0.5), "wrong way"),
        ("match", (2, 1.5, 1, 0.5, 0, -1), "falls"),
    ],
)
def test_verdicts_follow_direction_and_interval(study, better, values, said):
    series = [Value("v", v, "synthetic", "val", v - 0.2, v + 0.2, "i", 2.0, 9, better) for v in values]
    assert study.verdict(series) == said
