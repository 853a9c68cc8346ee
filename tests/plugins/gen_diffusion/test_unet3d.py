"""The U-Net: counted weights, the plain formulation, odd sizes, precision, checkpointing."""

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch
from attrs import evolve

from gen_core.prior import PriorContext
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.unet3d import Unet3d, plane_features, time_features

TINY = Ddpm3d(base=8, multipliers=(1, 2), heads=2, head_dim=4)


def small(shape, **kw):
    torch.manual_seed(0)
    return Unet3d(shape, evolve(TINY, **kw))


@pytest.fixture(scope="module")
def textbook():
    """The module of the textbook network, as the benchmark has it."""
    file = Path(__file__).parents[3] / "benchmarks" / "unet.py"
    spec = importlib.util.spec_from_file_location("benchmark_unet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("base", "millions"), [(128, 38.3), (256, 144.8), (512, 562.7)])
def test_the_published_weight_counts_are_met_on_the_meta_device(base, millions):
    with torch.device("meta"):
        prior = build(Ddpm3d(base=base), PriorContext(shape=(8, 2, 28, 28)))
    assert all(p.is_meta for p in prior.parameters())
    assert sum(p.numel() for p in prior.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("attention", ["levels", "middle", "none"])
@pytest.mark.parametrize("shape", [(3, 2, 8, 12), (3, 1, 12, 4), (2, 5, 4, 8)])
def test_outputs_and_gradients_equal_the_plain_formulation(textbook, attention, shape):
    ours = small(shape, attention=attention, position_embedding="learned")
    theirs = textbook.PlainUnet(shape, evolve(TINY, attention=attention, position_embedding="learned")).take(ours)
    theirs = theirs.double()
    z, k = torch.randn(3, *shape), torch.tensor([1.0, 40.0, 300.0])
    a, b = ours(z, k), theirs(z.double(), k.double())
    assert (a.double() - b).norm() <= 2e-6 * b.norm()
    a.square().sum().backward(), b.square().sum().backward()
    want = dict(theirs.named_parameters())
    largest = max(p.grad.norm() for p in want.values() if p.grad is not None)
    for name, parameter in ours.named_parameters():
        if "time_projection" in name or name == "bias.table.weight":
            continue
        grad, mine = want[name].grad, textbook.as_stored_by_the_library(parameter.grad)
        assert parameter.grad.stride() == parameter.stride()  # fused Adam reads them side by side
        difference = (mine.double() - grad.reshape(mine.shape)).norm()
        assert difference <= 1e-4 * grad.norm() + 1e-6 * largest, name  # some are exactly zero
    projection = torch.cat([b.time.weight.grad for b in blocks_of(theirs)])
    torch.testing.assert_close(
        ours.time_projection.weight.grad.double(), projection, rtol=1e-3, atol=1e-6 * float(largest)
    )


def blocks_of(plain):
    return [b for level in (*plain.down, plain.middle, *plain.up) for b in (level.block1, level.block2)]


@pytest.mark.parametrize("plane", [(7, 21), (42, 1), (1, 1), (5, 6)])
def test_odd_latents_come_back_at_their_own_size(plane):
    network = small((3, 2, *plane), multipliers=(1, 2, 2, 4))
    z = torch.randn(2, 3, 2, *plane)
    out = network(z, torch.tensor([3.0, 5.0]))
    assert out.shape == z.shape and out.isfinite().all()
    out.sum().backward()


def test_every_corner_of_an_odd_latent_reaches_the_output():
    network = small((2, 1, 7, 5))
    z = torch.randn(1, 2, 1, 7, 5, requires_grad=True)
    network(z, torch.tensor([3.0])).square().sum().backward()
    assert (z.grad.abs().amin(dim=(0, 1, 2)) > 0).all()


def test_the_samples_of_a_batch_do_not_see_each_other():
    network, z, k = small((3, 2, 6, 5)), torch.randn(4, 3, 2, 6, 5), torch.tensor([1.0, 9.0, 50.0, 300.0])
    together = network(z, k)
    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], network(z[i : i + 1], k[i : i + 1]), rtol=1e-4, atol=1e-5)


def test_checkpointed_activations_give_the_same_gradients():
    network, z, k = small((3, 2, 6, 5)), torch.randn(2, 3, 2, 6, 5), torch.tensor([3.0, 30.0])
    grads = []
    for on in (False, True):
        network.checkpointing = on
        network.zero_grad()
        network(z, k).square().sum().backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_bf16_autocast_stays_near_float32_and_leaves_the_time_in_float32():
    network, z, k = small((3, 2, 6, 8)), torch.randn(4, 3, 2, 6, 8), torch.tensor([1.0, 2.0, 299.0, 300.0])
    want = network(z, k)
    with torch.autocast("cpu", torch.bfloat16):
        times, out = network.times(k), network(z, k)
    assert all(t.dtype == torch.float32 for t in times)
    assert (out.float() - want).norm() <= 0.03 * want.norm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_bf16_weight_gradients_agree_with_float32():
    z, k = torch.randn(4, 3, 2, 8, 6), torch.tensor([10.0, 70.0, 150.0, 290.0])
    grads = []
    for on in (False, True):
        network = small((3, 2, 8, 6))
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            out = network(z, k)
        out.float().square().mean().backward()
        grads.append({n: p.grad for n, p in network.named_parameters()})
    for name, grad in grads[0].items():
        if grad.norm() > 1e-3 * max(g.norm() for g in grads[0].values()):
            cosine = torch.cosine_similarity(grad.flatten(), grads[1][name].flatten(), dim=0)
            assert cosine > 0.97, (name, cosine)


def test_time_features_tell_late_steps_apart_in_float32():
    f = time_features(torch.tensor([998.0, 999.0, 1000.0]), 16)
    assert f.dtype == torch.float32 and (f[0] - f[1]).abs().max() > 0.1
    assert f[2, 0].item() == pytest.approx(torch.sin(torch.tensor(1000.0)).item(), abs=1e-6)
    assert f.shape == (3, 16)


def test_the_fixed_position_embedding_is_unique_at_every_position():
    f = torch.from_numpy(plane_features(16, 6, 7)).flatten(1).T
    assert torch.pdist(f).min() > 0.05
    network = small((3, 1, 6, 7), position_embedding="fixed")
    assert "position" not in dict(network.named_parameters()) and network.position.shape == (8, 6, 7)
