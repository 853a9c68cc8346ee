"""One DDPM training step and a sampling loop on CUDA against the plain formulation in float64 on the CPU.

The same bodies run on the CPU in float32, so that they are exercised where there is no GPU.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

from gen_core.batch import Batch
from gen_core.denoising import clamped
from gen_core.prior import PriorContext
from gen_core.trainable import Step
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.dpm_plus_plus import build as build_dpm
from gen_diffusion.sampler_options import DpmPlusPlus2M

OPTIONS = Ddpm3d(base=16, multipliers=(1, 2), heads=2, head_dim=8, predict="v", loss="l2")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]


@pytest.fixture
def exact_float32():
    """Convolutions in float32, not in TF32."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@pytest.fixture
def pair():
    """The prior, and the plain network with its weights in float64; even sizes, as the plain one needs them."""
    file = Path(__file__).parents[2] / "benchmarks" / "unet.py"
    spec = importlib.util.spec_from_file_location("benchmark_unet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    shape = (4, 2, 6, 8)
    prior = build(OPTIONS, PriorContext(shape=shape))
    plain = module.PlainUnet(shape, OPTIONS).take(prior.network).double()
    return prior, plain, shape, module.as_stored_by_the_library


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_step_equals_the_float64_one(device, pair, exact_float32):
    prior, plain, shape, stored = pair
    z = torch.randn(5, *shape)
    t, eps = prior.draw(z, torch.Generator().manual_seed(7))
    alpha, sigma = (f(t).view(-1, 1, 1, 1, 1) for f in (prior.path.alpha, prior.path.sigma))
    v = alpha * eps.double() - sigma * z.double()
    want = (plain(alpha * z.double() + sigma * eps.double(), t * 300) - v).square().mean()
    want.backward()

    prior.to(device)
    step = Step(0, 0, 1, torch.Generator().manual_seed(7), torch.device(device))
    (part,) = prior.training_step(Batch(z).to(device), step)
    part.losses["loss"].backward()
    assert part.losses["loss"].item() == pytest.approx(want.item(), rel=1e-5)
    truth = dict(plain.named_parameters())
    largest = max(p.grad.norm() for p in truth.values())
    for name in (
        "first.weight",
        "middle.space.qkv.weight",
        "up.0.depth.qkv.weight",
        "shrink.0.weight",
        "final.bias",
    ):
        ours = stored(dict(prior.network.named_parameters())[name].grad.double().cpu())
        assert (ours - truth[name].grad.reshape(ours.shape)).norm() <= 1e-3 * largest, name


@pytest.mark.parametrize("device", DEVICES)
def test_a_sampling_loop_equals_the_float64_one(device, pair, exact_float32):
    prior, plain, shape, _ = pair
    z = torch.randn(3, *shape)
    ts = prior.path.grid(8)

    def exact(z, t):
        alpha, sigma = (f(t.double()).view(-1, 1, 1, 1, 1) for f in (prior.path.alpha, prior.path.sigma))
        v = plain(z, t * 300)
        return alpha * z - sigma * v, sigma * z + alpha * v

    sampler = build_dpm(DpmPlusPlus2M(), None)
    with torch.no_grad():
        want = sampler.sample(clamped(exact, prior.path, 2.0), prior.path, z.double(), ts, None)
        prior.to(device)
        got = sampler.sample(clamped(prior.denoise, prior.path, 2.0), prior.path, z.to(device), ts.to(device), None)
    assert got.device.type == device and got.dtype == torch.float32
    assert (got.double().cpu() - want).norm() <= 1e-3 * want.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_bf16_on_cuda_stays_near_float32_and_waits_for_nothing(pair):
    prior, _, shape, _ = pair
    prior.to("cuda")
    z, t = torch.randn(3, *shape, device="cuda"), torch.full((3,), 0.5, device="cuda")
    want = prior.denoise(z, t)[0]
    with torch.autocast("cuda", torch.bfloat16):
        prior.denoise(z, t)
        torch.cuda.set_sync_debug_mode("error")
        try:
            got = prior.denoise(z, t)[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert (got - want).norm() <= 0.05 * want.norm()
