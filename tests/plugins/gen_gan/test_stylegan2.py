"""The prior `stylegan2-ada`: contract, truncation, conditions, penalties, resume."""

import pytest
import torch
from attrs import evolve

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.engine.fit import fit
from gen_core.engine.source import TensorSource
from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.options import FitOptions
from gen_core.prior import PriorContext
from gen_core.testing import check_prior, check_trainable
from gen_gan.stylegan2 import build
from gen_gan.stylegan2_options import Stylegan2Ada

SHAPE = (3, 1, 16, 24)


def noise_of(prior, n, seed=0):
    return torch.randn(prior.noise_shape(n), generator=torch.Generator().manual_seed(seed))


def losses_of(prior, batch, step):
    return {part.group: part for part in prior.training_step(batch, step)}


def wild(prior):
    """Noise strengths and biases away from zero, as after training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in prior.named_parameters():
            if name.endswith(("strength", "bias")):
                p += 0.3 * torch.randn(p.shape, generator=generator)
    return prior


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 8, 8), (5, 1, 28, 28)])
def test_the_prior_keeps_the_contract(stylegan2, shape):
    check_prior(wild(stylegan2(shape)))


def test_the_prior_keeps_the_contract_with_every_change_of_the_augmentation(stylegan2):
    kinds = ("blit", "geometric", "colour", "filter", "noise", "cutout")
    check_prior(stylegan2(augment={"kinds": kinds, "start": 0.7, "target": 0.0}))


def test_a_conditional_prior_keeps_the_contract(stylegan2, specs, facts):
    prior, cond = stylegan2(specs=specs), facts(4)
    check_prior(prior)
    check_trainable(prior, Batch(torch.randn(4, *SHAPE), condition=cond.values, present=cond.present))


def test_conditional_draws_differ_and_the_unknown_is_one_more(stylegan2, specs, facts):
    prior = wild(stylegan2(specs=specs))
    noise = noise_of(prior, 1).expand(5, -1)
    known = torch.tensor([True, True, True, True, False])
    values = {"kind": torch.tensor([0, 1, 2, 2, 0]), "count": torch.tensor([0.0, 0, 0, 1, 0])}
    with torch.no_grad():
        z = prior.draw(noise, Conditions(values, {"kind": known, "count": known}))
        assert torch.pdist(z.flatten(1)).min() > 1e-3
        torch.testing.assert_close(prior.draw(noise[:1]), z[4:])


def test_the_discriminator_hears_the_condition(stylegan2, specs, facts):
    prior, x, cond = stylegan2(specs=specs), torch.randn(4, 3, 16, 24), facts(4)
    other = Conditions(cond.values | {"kind": (cond.values["kind"] + 1) % 3}, cond.present)
    assert (prior.critic(x, cond) - prior.critic(x, other)).abs().min() > 1e-4


def test_truncation_moves_to_the_mean_style(stylegan2):
    prior, noise = wild(stylegan2()), noise_of(stylegan2(), 6)
    prior.w_mean.copy_(torch.randn(7, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        whole, none = prior.draw(noise), prior.draw(noise, truncation=0.0)
        maps = noise[:, prior.options.z_dim :]
        mean = prior.images(prior.w_mean.expand(6, prior.generator.synthesis.styles, -1), maps)
        torch.testing.assert_close(none[:, :, 0], mean)
        torch.testing.assert_close(prior.draw(noise, truncation=1.0), whole)
        distance = [float((prior.draw(noise, truncation=psi) - none).norm()) for psi in (0.0, 0.3, 0.6, 1.0)]
    assert distance == sorted(distance) and distance[1] > 0


def test_the_mean_style_follows_the_mapping(stylegan2, step):
    prior = stylegan2(w_average=0.5, style_mixing=0.0)
    batch = Batch(torch.randn(64, *SHAPE))
    for i in range(12):
        with torch.no_grad():
            prior._training_styles(64, Conditions(), step(i), follow=True)
    with torch.no_grad():
        want = prior.styles(torch.randn(4000, 6, generator=torch.Generator().manual_seed(9)), Conditions()).mean(0)
    assert batch and (prior.w_mean - want).abs().max() < 0.25 * want.abs().max()


def test_lazy_penalties_come_when_due_and_so_many_times_as_heavy(stylegan2, step):
    prior, batch = stylegan2(), Batch(torch.randn(4, *SHAPE))
    seen = []
    for i in range(7):
        parts = losses_of(prior, batch, step(i))
        seen.append((("r1" in parts["discriminator"].losses), "path_length" in parts["generator"].losses))
    assert seen == [(i % 2 == 0, i % 3 == 0) for i in range(7)]
    twice, once = stylegan2(augment={"kinds": ()}), stylegan2(augment={"kinds": ()}, r1_every=1)
    a, b = (losses_of(p, batch, step())["discriminator"].losses["r1"] for p in (twice, once))
    torch.testing.assert_close(a, 2 * b)


def test_r1_goes_through_the_augmentation(stylegan2, step):
    """A discriminator that is linear, seen through twice the contrast, has twice the gradient."""
    prior, batch = stylegan2(r1_every=1), Batch(torch.randn(4, *SHAPE))
    weight = torch.randn(3, 16, 24, requires_grad=True)
    prior.critic.forward = lambda x, cond: (x * weight).sum((1, 2, 3))
    prior._seen = lambda x, cond, step: prior.critic(2 * x, cond)
    got = losses_of(prior, batch, step())["discriminator"].losses["r1"]
    torch.testing.assert_close(got, 0.5 * 4 * weight.square().sum(), rtol=1e-4, atol=0)


def test_the_weight_of_r1_follows_pixels_and_batch_where_none_is_given():
    """The published heuristic, at its published settings: 0.0002 * 256^2 / 64."""
    options = Stylegan2Ada(z_dim=4, w_dim=4, channel_base=64, channel_max=4, fit=FitOptions(batch=64))
    prior = build(options, PriorContext((1, 1, 256, 256)))
    assert prior.gamma == pytest.approx(0.2048)


def test_p_moves_after_the_discriminator_and_is_logged(stylegan2, step):
    prior, batch = stylegan2(augment={"start": 0.5, "images": 80, "every": 2}), Batch(torch.randn(4, *SHAPE))
    prior.critic.forward = lambda x, cond: x.mean((1, 2, 3)) * 0 + 1.0  # sure of everything
    for i in range(2):
        logs = losses_of(prior, batch, step(i))["discriminator"].logs
        prior.updated("generator", step(i))
        prior.updated("discriminator", step(i))
        assert float(logs["ada_p"]) == 0.5 and float(logs["real_sign"].detach()) == 1.0
    assert float(prior.augmentation.p) == pytest.approx(0.5 + 8 / 80)


def test_both_groups_learn_and_each_of_its_own(stylegan2, step):
    prior, batch = wild(stylegan2()), Batch(torch.randn(4, *SHAPE))
    for part in prior.training_step(batch, step()):
        own = [p for m in prior.groups()[part.group] for p in m.parameters()]
        gradients = torch.autograd.grad(sum(part.losses.values()), own, allow_unused=True, retain_graph=True)
        reached = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
        assert all(reached), (part.group, reached)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_fit_stopped_and_resumed_has_the_same_bits(stylegan2, specs, facts, tmp_path, precision):
    def fresh():
        return stylegan2(specs=specs, augment={"start": 0.4, "images": 40, "every": 2})

    def source():
        z = torch.randn(10, *SHAPE, generator=torch.Generator().manual_seed(3))
        return TensorSource(z, conditions=facts(10))

    whole, half, rest = fresh(), fresh(), fresh()
    options = evolve(whole.options.fit, precision=precision)
    fit(whole, source(), options, folder=tmp_path / "whole", stage="gan", seed=1)
    stop, updated = StopFlag(), half.updated
    half.updated = lambda group, step: (updated(group, step), stop.request("test") if step.index == 2 else None)
    with pytest.raises(Stopped, match="after step 3"):
        fit(half, source(), options, folder=tmp_path / "parts", stage="gan", seed=1, stop=stop)
    with torch.no_grad():
        for p in rest.parameters():
            p.zero_()  # nothing but the checkpoint brings the weights
    summary = fit(rest, source(), options, folder=tmp_path / "parts", stage="gan", seed=1)
    assert summary.resumed_from == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
    assert float(whole.augmentation.p) != 0.4 and float(whole.path_mean) > 0 and whole.w_mean.any()


def test_deep_volumes_odd_sizes_and_masks_are_refused():
    options = Stylegan2Ada()
    for shape, specs, message in (
        ((1, 4, 32, 32), {}, "makes single slices, the latents are 4 deep"),
        ((1, 1, 33, 32), {}, "33 .try 32."),
        ((1, 1, 32, 32), {"m": ConditionSpec("mask")}, "classes and scalars only"),
    ):
        with pytest.raises(RecipeError, match=message):
            build(options, PriorContext(shape, conditions=specs))


def test_it_is_built_on_the_meta_device_with_the_published_widths():
    with torch.device("meta"):
        prior = build(Stylegan2Ada(), PriorContext((3, 1, 256, 256)))
    counts = {k: sum(p.numel() for m in v for p in m.parameters()) for k, v in prior.groups().items()}
    assert [i.conv.weight.shape[1] for i in prior.generator.synthesis.images] == [512, 512, 512, 512, 256, 128, 64]
    # 24.8 and 24.0 million are published for 256 x 256
    assert counts["generator"] == pytest.approx(24.8e6, rel=0.01)
    assert counts["discriminator"] == pytest.approx(24.0e6, rel=0.01)


def test_validation_looks_at_logits_without_augmentation(stylegan2, step):
    prior, batch = stylegan2(), Batch(torch.randn(4, *SHAPE))
    with torch.no_grad():
        found = prior.validation_step(batch, step())
        want = prior.critic(batch.x[:, :, 0], Conditions()).mean()
    assert sorted(found) == ["ada_p", "fake_logit", "loss", "real_logit", "real_sign"]
    torch.testing.assert_close(found["real_logit"], want)


def test_a_fit_without_averaged_weights_is_noted(stylegan2):
    assert not stylegan2().notes()
    assert "ema = 0" in stylegan2(fit=evolve(stylegan2().options.fit, ema=0.0)).notes()[0]
