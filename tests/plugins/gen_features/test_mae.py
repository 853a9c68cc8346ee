"""The masked autoencoder: the contract, what it sees and must complete, and that it learns."""

import math

import pytest
import torch

from gen_core.engine.fit import fit
from gen_core.engine.source import TensorSource
from gen_core.errors import RecipeError
from gen_core.features import FeaturesContext
from gen_core.options import FitOptions
from gen_core.testing import check_features
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_features.mae import Block, build, places
from gen_features.mae_options import MaeVit


def small(spec, seed=0, **changes):
    settings = dict(patch=4, width=32, depth=2, heads=2, decoder_width=16, decoder_depth=1)
    torch.manual_seed(seed)
    return build(MaeVit(**{**settings, **changes}), FeaturesContext(spec))


def test_it_keeps_the_contract(make_eyes, spec):
    network, batch = small(spec), make_eyes(3, 0)
    assert network.takes == "volume" and network.dim == 32 and network.fitted
    check_features(network, batch.x, batch)


def test_patches_are_cut_row_by_row(spec):
    x = torch.randn(2, 1, 6, 24, 28, generator=torch.Generator().manual_seed(0))
    patches = small(spec).patches(x)
    assert patches.shape == (2, 42, 96)
    assert torch.equal(patches[1, 2 * 7 + 5], x[1, 0, :, 8:12, 20:24].flatten())


def test_a_quarter_of_the_patches_is_seen(make_eyes, spec):
    network = small(spec)
    sizes = []
    network.encoder.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape))
    network.decoder.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape))
    network.masked_error(make_eyes(2, 0).x, torch.Generator().manual_seed(0))
    assert sizes == [(2, 10, 32), (2, 42, 16)]  # a quarter of 42, rounded; then all


def test_what_is_hidden_does_not_reach_the_encoder(make_eyes, spec):
    network, x = small(spec).eval(), make_eyes(1, 0).x
    order = torch.rand(1, 42, generator=torch.Generator().manual_seed(7)).argsort(1)[0]
    hidden = int(order[-1])
    row, column = divmod(hidden, 7)
    other = x.clone()
    other[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += torch.randn(4, 4)
    seen = []
    network.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    losses = [network.masked_error(v, torch.Generator().manual_seed(7)) for v in (x, other)]
    assert torch.equal(seen[0], seen[1]) and not torch.equal(*losses)


def test_guessing_nothing_costs_one(make_eyes, spec):
    # targets are normalized patch by patch: a guess of zeros has the mean square 1 (less the floor of the variance)
    network = small(spec)
    torch.nn.init.zeros_(network.predict.weight)
    error = network.masked_error(make_eyes(3, 0).x, torch.Generator().manual_seed(0))
    assert float(error.detach()) == pytest.approx(1.0, abs=1e-2)


def test_a_block_is_attention_and_a_layer_of_its_formula():
    torch.manual_seed(0)
    block, x = Block(12, 3), torch.randn(2, 5, 12)
    h = block.norm1(x)
    q, k, v = block.qkv(h).split(12, 2)
    parts = []
    for head in range(3):
        a, b, c = (t[..., 4 * head : 4 * head + 4] for t in (q, k, v))
        parts.append(torch.softmax(a @ b.mT / 2.0, 2) @ c)  # root of 4 features a head
    y = x + block.project(torch.cat(parts, 2))
    y = y + block.outer(torch.nn.functional.gelu(block.inner(block.norm2(y))))
    torch.testing.assert_close(block(x), y)


def test_distances_of_places_are_those_of_the_waves():
    # |p_i - p_j|^2 is the sum over rates of 2 - 2 cos(rate (i - j)), for rows and for columns
    p, rates = places(5, 7, 16), [10000.0 ** -(k / 4) for k in range(4)]
    assert p.shape == (35, 16)
    for (r1, c1), (r2, c2) in (((0, 0), (0, 1)), ((0, 0), (3, 0)), ((4, 2), (1, 6)), ((2, 2), (2, 2))):
        expected = sum(4 - 2 * math.cos(rate * (r1 - r2)) - 2 * math.cos(rate * (c1 - c2)) for rate in rates)
        found = float((p[7 * r1 + c1] - p[7 * r2 + c2]).square().sum())
        assert found == pytest.approx(expected, abs=1e-5)
    assert float((torch.cdist(p, p) + 9 * torch.eye(35)).min()) > 0.3  # no two alike


def test_it_learns_through_the_engine_and_resumes(make_eyes, spec, tmp_path):
    batch = make_eyes(12, 0)
    held = TensorSource(make_eyes(6, 1).x)

    def run(folder, seed, steps):
        network = small(spec, seed=seed)
        options = FitOptions(steps=steps, batch=6, lr=3e-3, checkpoint_every=20, validate_every=0)
        source, folder = TensorSource(batch.x), tmp_path / folder
        validation = lambda: held.batches(6)
        return network, fit(
            network, source, options, folder=folder, stage="fit.features", seed=2, validation=validation
        )

    network, short = run("whole", 0, 40)
    assert short.values["masked"] < 0.9
    first, _ = run("parts", 0, 20)
    again, summary = run("parts", 9, 40)
    assert summary.resumed_from == 20 and summary.values == short.values
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_validation_is_silent_and_says_the_error(make_eyes, spec):
    step = Step(0, 0, 9, torch.Generator().manual_seed(3), torch.device("cpu"))
    network, batch = small(spec).eval(), make_eyes(2, 0)
    expected = network.masked_error(batch.x, torch.Generator().manual_seed(3))
    assert torch.equal(network.validation_step(batch, step)["masked"], expected.detach())


def test_wrong_settings_are_one_line(spec):
    with pytest.raises(RecipeError, match="patch = 5 does not divide the image of 24 x 28"):
        small(spec, patch=5)
    with pytest.raises(RecipeError, match="hides none of 2 patches"):
        small(VolumeSpec((6, 4, 8)), mask=0.1)
    with pytest.raises(ValueError, match="width = 30 must be a multiple of 4 x heads = 8"):
        MaeVit(width=30, heads=2)
