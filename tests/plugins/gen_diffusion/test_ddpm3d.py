"""The prior: the algebra of the three parametrizations, losses and weights, conditions, determinism."""

import math

import pytest
import torch
from attrs import evolve

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.denoising import guided
from gen_core.errors import RecipeError
from gen_core.prior import PriorContext
from gen_core.testing import check_prior
from gen_core.trainable import Step
from gen_diffusion.ddpm3d import build
from gen_diffusion.ddpm3d_options import Ddpm3d

SHAPE = (3, 2, 6, 5)
TINY = Ddpm3d(base=8, multipliers=(1, 2), heads=2, head_dim=4, steps=20)


def tiny(**kw):
    torch.manual_seed(0)
    return build(evolve(TINY, **kw), PriorContext(shape=SHAPE))


def step(seed=0):
    return Step(0, 0, 10, torch.Generator().manual_seed(seed), torch.device("cpu"))


def loss_of(prior, z, seed=0):
    (part,) = prior.training_step(Batch(z), step(seed))
    assert part.group == "main"
    return sum(part.losses.values())


def knowing(prior, answer):
    """Replace the network by a function of (z_t, k): what a perfectly trained one would say."""
    prior.network.forward = answer
    return prior


@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_z_0_and_eps_recompose_z_t_whatever_was_trained(predict):
    prior = tiny(predict=predict)
    z, t = torch.randn(4, *SHAPE), torch.tensor([1, 7, 13, 20]) / 20
    z_0, eps = prior.denoise(z, t)
    assert z_0.dtype == eps.dtype == torch.float32
    alpha, sigma = (f(t.double()).float().view(4, 1, 1, 1, 1) for f in (prior.path.alpha, prior.path.sigma))
    # At t = 1 z_0 is about 1e4 times the error of eps: compare in z_t.
    torch.testing.assert_close(alpha * z_0 + sigma * eps, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_a_network_that_hits_the_target_has_no_loss_and_returns_the_data(predict):
    prior = tiny(predict=predict, loss="l2")
    z_0, seen = torch.randn(5, *SHAPE), {}

    def answer(z_t, k):
        t = k.double() / 20
        alpha, sigma = (f(t).float().view(-1, 1, 1, 1, 1) for f in (prior.path.alpha, prior.path.sigma))
        eps = (z_t - alpha * z_0) / sigma
        seen["k"] = k
        return {"eps": eps, "x0": z_0, "v": alpha * eps - sigma * z_0}[predict]

    knowing(prior, answer)
    assert loss_of(prior, z_0) < 1e-8
    assert torch.equal(seen["k"], seen["k"].round()) and seen["k"].min() >= 1 and seen["k"].max() <= 20
    t = torch.tensor([1, 4, 8, 12, 15]) / 20
    alpha, sigma = (f(t.double()).float().view(-1, 1, 1, 1, 1) for f in (prior.path.alpha, prior.path.sigma))
    eps = torch.randn_like(z_0)
    got = prior.denoise(alpha * z_0 + sigma * eps, t)
    torch.testing.assert_close(got[0], z_0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[1], eps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("predict", ["eps", "x0", "v"])
def test_min_snr_weights_the_same_error_of_z_0_alike_in_every_parametrization(predict):
    gamma, prior = 5.0, tiny(predict=predict, min_snr_gamma=5.0)
    t = torch.arange(1, 21) / 20
    alpha2 = prior.path.alpha(t.double()) ** 2
    snr = alpha2 / (1 - alpha2)
    per_z_0 = {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}[predict]  # d target / d z_0, squared
    torch.testing.assert_close(prior.weight(t).double() * per_z_0, snr.clamp(max=gamma), rtol=1e-5, atol=1e-9)
    assert tiny(predict=predict).weight(t) is None


@pytest.mark.parametrize(("loss", "mean"), [("l1", math.sqrt(2 / math.pi)), ("l2", 1.0)])
def test_an_eps_network_that_says_nothing_loses_the_moment_of_a_normal(loss, mean):
    prior = knowing(tiny(loss=loss), lambda z, k: torch.zeros_like(z))
    assert loss_of(prior, torch.randn(200, *SHAPE)).item() == pytest.approx(mean, rel=0.02)


def test_the_draws_come_from_the_steps_generator_alone():
    prior, z = tiny(dropout=0.0), torch.randn(4, *SHAPE)
    torch.manual_seed(1)
    a = loss_of(prior, z, 3)
    torch.manual_seed(2)
    assert loss_of(prior, z, 3) == a and loss_of(prior, z, 4) != a


def test_validation_is_repeatable_and_changes_nothing():
    prior, z = tiny(), torch.randn(4, *SHAPE)
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    one, two = prior.validation_step(Batch(z), step(1)), prior.validation_step(Batch(z), step(2))
    assert one == two and set(one) == {"loss", "mse"}
    assert all(torch.equal(v, prior.state_dict()[k]) for k, v in before.items())


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    prior = tiny(predict="x0", loss="l2")
    z = torch.randn(1, *SHAPE).expand(8, -1, -1, -1, -1)  # one volume to learn by heart
    adam = torch.optim.AdamW(prior.parameters(), lr=1e-2)
    values = []
    for i in range(40):
        loss = loss_of(prior, z, i)
        adam.zero_grad(), loss.backward(), adam.step()
        values.append(loss.item())
    assert sum(values[-5:]) < 0.3 * sum(values[:5])


def test_conditions_are_refused_when_there_are_none():
    prior, z, t = tiny(), torch.randn(2, *SHAPE), torch.ones(2)
    prior.denoise(z, t, Conditions())
    with pytest.raises(RecipeError, match="built without conditions, got: sex"):
        prior.denoise(z, t, Conditions({"sex": torch.zeros(2)}, {"sex": torch.ones(2, dtype=torch.bool)}))


def test_without_conditions_weights_keep_their_names_and_values():
    prior = tiny()
    assert not any("embedding" in name or "grid" in name or "cross" in name for name in prior.state_dict())
    told = tiny_told()
    ours = prior.state_dict()
    shared = {name: value for name, value in told.state_dict().items() if name in ours}
    assert shared.keys() == ours.keys() and all(torch.equal(value, ours[name]) for name, value in shared.items())


SPECS = {  # two tokens: attention to a single one has nothing to choose
    "site": ConditionSpec("class", ("left", "right")),
    "age": ConditionSpec("scalar", low=20.0, high=90.0),
    "lesion": ConditionSpec("mask", channels=2),
}


def tiny_told(specs=SPECS, **kw):
    torch.manual_seed(0)
    return build(evolve(TINY, **kw), PriorContext(shape=SHAPE, conditions=specs))


def facts(n):
    values = {"site": torch.arange(n) % 2, "age": torch.linspace(-1, 1, n), "lesion": torch.rand(n, 2, *SHAPE[1:])}
    return Conditions(values, {name: torch.ones(n, dtype=torch.bool) for name in values})


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_a_conditional_network_starts_as_the_unconditional_one(embed):
    prior, told = tiny(), tiny_told(embed=embed)
    told.load_state_dict(prior.state_dict(), strict=False)
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.6, 0.9])
    for got, want in zip(told.denoise(z, t, facts(3)), prior.denoise(z, t)):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
@pytest.mark.parametrize("attention", ["levels", "middle"])
def test_every_new_weight_is_trained_after_two_steps(embed, attention):
    told = tiny_told(embed=embed, attention=attention, drop_condition=0.3)
    adam, cond, z = torch.optim.Adam(told.parameters(), lr=1e-2), facts(8), torch.randn(8, *SHAPE)
    new = {n: p for n, p in told.named_parameters() if "embedding." in n or "cross" in n or "grid" in n}
    before = {n: p.detach().clone() for n, p in new.items()}
    for i in range(2):
        (part,) = told.training_step(Batch(z, condition=cond.values, present=cond.present), step(i))
        adam.zero_grad(), part.losses["loss"].backward(), adam.step()
    assert len(before) >= 3
    same = [n for n, p in new.items() if torch.equal(p, before[n])]
    assert same == []
    a, b = told.denoise(z, torch.full((8,), 0.5), cond)[1], told.denoise(z, torch.full((8,), 0.5))[1]
    assert (a - b).abs().max() > 1e-4


def trained(embed, steps=2):
    told, cond, z = tiny_told(embed=embed, drop_condition=0.3), facts(8), torch.randn(8, *SHAPE)
    adam = torch.optim.Adam(told.parameters(), lr=1e-2)
    for i in range(steps):
        (part,) = told.training_step(Batch(z, condition=cond.values, present=cond.present), step(i))
        adam.zero_grad(), part.losses["loss"].backward(), adam.step()
    return told


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_a_trained_conditional_prior_keeps_the_contract_and_absent_values_say_nothing(embed):
    told, cond, z = trained(embed), facts(4), torch.randn(4, *SHAPE)
    check_prior(told, batch=Batch(z, condition=cond.values, present=cond.present))
    t = torch.linspace(0.2, 0.9, 4)
    for name in SPECS:
        absent = cond.present | {name: torch.zeros(4, dtype=torch.bool)}
        value = cond.values[name]
        other = torch.full_like(value, math.nan) if value.is_floating_point() else torch.full_like(value, -1)
        a = told.denoise(z, t, Conditions(cond.values, absent))[1]
        assert torch.equal(a, told.denoise(z, t, Conditions(cond.values | {name: other}, absent))[1])
        assert (a - told.denoise(z, t, cond)[1]).abs().max() > 1e-6


def test_guidance_runs_between_what_is_known_and_what_is_not():
    told, cond, z, t = trained("added"), facts(4), torch.randn(4, *SHAPE), torch.full((4,), 0.5)
    known, unknown = told.denoise(z, t, cond)[1], told.denoise(z, t)[1]
    got = guided(told.denoise, cond, 3.0)(z, t)[1]
    torch.testing.assert_close(got, unknown + 3.0 * (known - unknown), rtol=1e-4, atol=1e-5)
    assert (known - unknown).abs().max() > 1e-4


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_bf16_leaves_a_conditional_network_near_float32(embed):
    told, cond, z = trained(embed), facts(4), torch.randn(4, *SHAPE)
    t = torch.linspace(0.2, 0.9, 4)
    want = told.predict(z, t, cond)
    with torch.autocast("cpu", torch.bfloat16):
        got = told.predict(z, t, cond)
    assert got.dtype == torch.float32 and (got - want).norm() <= 0.03 * want.norm()


def test_cross_attention_needs_attention():
    with pytest.raises(RecipeError, match=r'embed = "cross-attention" needs attention'):
        tiny_told(embed="cross-attention", attention="none")
    only_mask = tiny_told({"lesion": SPECS["lesion"]}, embed="cross-attention", attention="none")
    assert only_mask.network.first_grid is not None  # masks need none


def test_half_precision_input_and_autocast_give_float32():
    prior = tiny(predict="v")
    with torch.autocast("cpu", torch.bfloat16):
        z_0, eps = prior.denoise(torch.randn(2, *SHAPE).bfloat16(), torch.ones(2))
        loss = loss_of(prior, torch.randn(2, *SHAPE))
    assert z_0.dtype == eps.dtype == loss.dtype == torch.float32


def test_a_path_that_ends_in_almost_pure_noise_stays_finite():
    prior = tiny(predict="eps", clip=1 - 1e-12)
    z_0, eps = prior.denoise(torch.randn(2, *SHAPE), torch.ones(2))
    assert z_0.isfinite().all() and eps.isfinite().all()


def test_denoise_is_differentiable_in_z_t():
    z = torch.randn(2, *SHAPE, requires_grad=True)
    tiny().denoise(z, torch.full((2,), 0.5))[0].square().sum().backward()
    assert z.grad.isfinite().all() and z.grad.abs().sum() > 0


def test_checkpointing_is_switched_on_in_the_network():
    prior = tiny()
    prior.checkpoint_activations(True)
    assert prior.network.checkpointing


def test_the_published_system_is_the_default():
    o = Ddpm3d()
    assert (o.base, o.multipliers, o.heads, o.head_dim) == (512, (1, 2, 4), 8, 32)
    assert (o.steps, o.schedule, o.s, o.clip, o.predict, o.loss) == (
        300,
        "cosine",
        0.008,
        0.9999,
        "eps",
        "l1",
    )
    assert (o.fit.optimizer, o.fit.lr, o.fit.ema, o.fit.ema_every, o.fit.ema_start) == (
        "adam",
        1e-4,
        0.995,
        10,
        2000,
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base", 12, "'base' must be a positive multiple of 8"),
        ("multipliers", (), "'multipliers' must hold at least one integer"),
        ("head_dim", 5, "'head_dim' must be even"),
        ("steps", 1, "'steps' must be >= 2"),
        ("clip", 1.0, "'clip' must be < 1"),
        ("dropout", 1.0, "'dropout' must be < 1"),
        ("min_snr_gamma", -1.0, "'min_snr_gamma' must be >= 0"),
    ],
)
def test_a_wrong_setting_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        Ddpm3d(**{key: value})
