"""Sampling on CUDA: recorded graphs give the plain numbers, the loop waits for nothing, chunks come out in order.

What can be tested without a GPU lies in `tests/core`.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import group_norm

from gen_core.condition import Conditions, ConditionSpec
from gen_core.engine.fused import Fused
from gen_core.options import SampleOptions
from gen_core.prior import PriorContext
from gen_core.run.samples.drawing import draw
from gen_core.run.samples.sampling import Recorded, latents_from
from gen_diffusion.ddim import build as ddim
from gen_diffusion.ddpm import build as ddpm
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.dpm_plus_plus import build as dpm
from gen_diffusion.modulated_norm import modulated_norm_silu
from gen_diffusion.sampler_options import Ddim, Ddpm, DpmPlusPlus2M

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE = (4, 2, 6, 8)
CUDA = torch.device("cuda")
SAMPLERS = {"ddim": lambda: ddim(Ddim()), "ddpm": lambda: ddpm(Ddpm()), "dpm++": lambda: dpm(DpmPlusPlus2M())}


def prior_of(conditions=None):
    torch.manual_seed(0)
    options = Ddpm3d(base=16, multipliers=(1, 2), heads=2, head_dim=8)
    made = build(options, PriorContext(shape=SHAPE, conditions=conditions or {}))
    return made.to(CUDA).eval().requires_grad_(False)


def noise_of(seed):
    draws = lambda k: np.random.default_rng([seed, k]).standard_normal((3, *SHAPE), np.float32)
    return lambda k: torch.from_numpy(draws(k)).pin_memory().to(CUDA, non_blocking=True)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_recorded_graph_gives_the_numbers_of_plain_calls(name, precision):
    prior, said = prior_of(), []
    options = SampleOptions(n=3, batch=3, steps=6, clamp=1.0, precision=precision)
    recorded = Recorded(prior, options, CUDA, said.append)
    with torch.no_grad():
        for chunk in range(2):
            plain = latents_from(noise_of(chunk), prior, SAMPLERS[name](), options, CUDA)
            played = latents_from(noise_of(chunk), prior, SAMPLERS[name](), options, CUDA, recorded=recorded)
            assert torch.equal(plain, played)
    assert said == []  # it was recorded


def test_a_recorded_graph_follows_the_conditions_of_each_chunk():
    prior, said = prior_of({"age": ConditionSpec("scalar", low=0.0, high=1.0)}), []
    for parameter in prior.embedding.parameters():
        parameter.data.normal_()
    options = SampleOptions(n=3, batch=3, steps=4, clamp=1.0, guidance=2.0, guidance_interval=(0.2, 0.8))
    recorded = Recorded(prior, options, CUDA, said.append)
    found = []
    with torch.no_grad():
        for age in (0.1, 0.9):
            cond = Conditions({"age": torch.full((3,), age)}, {"age": torch.ones(3, dtype=torch.bool)}).to(CUDA)
            plain = latents_from(noise_of(0), prior, ddim(Ddim()), options, CUDA, cond=cond)
            played = latents_from(noise_of(0), prior, ddim(Ddim()), options, CUDA, cond=cond, recorded=recorded)
            assert torch.equal(plain, played)
            found.append(played)
    assert said == [] and not torch.equal(*found)


def test_the_loop_waits_for_nothing():
    prior = prior_of()
    options = SampleOptions(n=3, batch=3, steps=5, clamp=1.0, precision="bf16")
    recorded, sampler = Recorded(prior, options, CUDA, pytest.fail), ddpm(Ddpm())
    with torch.no_grad():
        latents_from(noise_of(0), prior, sampler, options, CUDA, recorded=recorded)
        step = recorded.told(None)
        z, t = noise_of(0)(0), torch.full((3,), 0.5, dtype=torch.float64, device=CUDA)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for k in range(3):
                z = step(z, t)[0] + noise_of(k)(0)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_chunks_come_out_in_order_while_the_next_is_computed():
    prior, seen = prior_of(), []
    codec = SimpleNamespace(decode=lambda z: z.clamp(-1, 1))
    options = SampleOptions(n=8, batch=3, steps=3, clamp=1.0)
    ctx = SimpleNamespace(
        recipe=SimpleNamespace(sample=options, conditions={}), seed=0, device=CUDA, spec=SimpleNamespace(shape=SHAPE),
        progress=SimpleNamespace(say=pytest.fail, update=lambda *a: seen.append(a)), prior=lambda: prior,
        codec=lambda: codec, sampler=lambda: ddim(Ddim()), check_stop=lambda: None,
    )  # fmt: skip
    together = {d.chunk: d for d in draw(ctx, [0, 1, 2])}
    assert list(together) == [0, 1, 2] and [len(d.x) for d in together.values()] == [3, 3, 2]
    for chunk in (0, 1, 2):
        (alone,) = draw(ctx, [chunk])
        assert torch.equal(alone.x, together[chunk].x)
    assert all(d.x.device.type == "cpu" and d.seconds["sampling"] > 0 for d in together.values())


@pytest.mark.parametrize("silu", [True, False])
def test_the_compiled_norm_equals_float64_forwards_and_backwards(silu):
    from gen_diffusion.modulated_norm import modulated_norm

    torch.manual_seed(0)
    norm = modulated_norm_silu if silu else modulated_norm
    inputs = [3 * torch.randn(3, 50, 24) + 2, torch.randn(3, 24), torch.randn(3, 24)]
    ours = [a.to(CUDA).requires_grad_() for a in inputs]
    truth = [a.double().requires_grad_() for a in inputs]
    x, gain, shift = truth
    want = group_norm(x.transpose(1, 2), 8, eps=1e-5).transpose(1, 2) * gain[:, None] + shift[:, None]
    y, want = norm(*ours, 8), want * want.sigmoid() if silu else want
    torch.testing.assert_close(y.cpu(), want.float(), rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    want.square().sum().backward()
    for a, b in zip(ours, truth):
        torch.testing.assert_close(a.grad.cpu(), b.grad.float(), rtol=1e-3, atol=1e-3)
    assert Fused.on
