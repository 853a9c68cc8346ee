"""Learning rates in closed form, group settings, optimizer state by name."""

from __future__ import annotations

import math

import pytest
import torch

from gen_core.engine.optimizers import lr_factor, make_groups
from gen_core.errors import RecipeError, RunError
from gen_core.options import FitOptions


def test_warm_up_rises_linearly_to_one_and_constant_stays():
    options = FitOptions(steps=20, warmup=4)
    assert [lr_factor(s, options) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_has_its_closed_form_values():
    options = FitOptions(steps=16, warmup=4, schedule="cosine")
    assert lr_factor(4, options) == 1.0
    assert lr_factor(8, options) == pytest.approx(0.75)  # u = 1/3, cos 60 degrees
    assert lr_factor(10, options) == pytest.approx(0.5)  # u = 1/2
    assert lr_factor(12, options) == pytest.approx(0.25)  # u = 2/3
    assert lr_factor(16, options) == pytest.approx(0.0)
    assert lr_factor(15, options) == pytest.approx(0.5 * (1 + math.cos(math.pi * 11 / 12)))


def test_warm_up_longer_than_the_fit_divides_by_nothing():
    options = FitOptions(steps=3, warmup=9, schedule="cosine")
    assert [lr_factor(s, options) for s in range(3)] == [pytest.approx((s + 1) / 9) for s in range(3)]


def test_groups_hold_their_own_parameters_and_settings(tiny):
    module = tiny.Tiny()
    module.decoder.bias.requires_grad_(False)
    options = FitOptions(
        optimizer="adam", lr=1e-3, clip=1.0, groups={"critic": {"lr": 4e-3, "beta1": 0.5, "clip": 0.0}}
    )
    groups = make_groups(module, options)
    assert list(groups) == ["main", "critic"]
    assert groups["main"].names == [
        "encoder.weight", "encoder.bias", "decoder.weight", "norm.weight", "norm.bias"
    ]  # fmt: skip
    assert groups["critic"].names == ["critic.weight", "critic.bias"]
    assert (groups["main"].lr, groups["main"].clip) == (1e-3, 1.0)
    assert (groups["critic"].lr, groups["critic"].clip) == (4e-3, 0.0)
    assert groups["critic"].optimizer.defaults["betas"] == (0.5, 0.999)
    assert type(groups["main"].optimizer) is torch.optim.Adam


def test_unknown_groups_and_keys_are_all_named(tiny):
    options = FitOptions(groups={"discriminator": {"lr": 1.0}, "critic": {"learning_rate": 1.0}})
    with pytest.raises(RecipeError) as caught:
        make_groups(tiny.Tiny(), options)
    assert len(caught.value.problems) == 2
    assert "no group 'discriminator'; this component has main, critic" in caught.value.problems[0]
    assert "unknown key 'learning_rate'" in caught.value.problems[1]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_updates_are_those_of_a_plain_float64_loop(tiny, optimizer):
    module = tiny.Tiny()
    options = FitOptions(optimizer=optimizer, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    group = make_groups(module, options)["critic"]
    w = module.critic.weight
    theta, m, v = w.detach().double(), 0.0, 0.0
    g = torch.Generator().manual_seed(0)
    for t in range(1, 8):
        w.grad = torch.randn(w.shape, generator=g)
        module.critic.bias.grad = torch.zeros(1)
        grad, lr = w.grad.double(), 0.01 * t / 7
        if optimizer == "adam":
            grad = grad + 0.1 * theta
        else:
            theta = theta * (1 - lr * 0.1)
        m, v = 0.8 * m + 0.2 * grad, 0.95 * v + 0.05 * grad**2
        theta = theta - lr * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        group.step(t / 7)
    torch.testing.assert_close(w.detach().double(), theta, atol=1e-6, rtol=1e-6)


def test_state_by_name_continues_the_same_updates(tiny):
    def grads(module, seed):
        g = torch.Generator().manual_seed(seed)
        for name, p in module.named_parameters():
            p.grad = None if name == "encoder.bias" else torch.randn(p.shape, generator=g)

    one, two = tiny.Tiny(), tiny.Tiny()
    a = make_groups(one, FitOptions())["main"]
    for seed in range(3):
        grads(one, seed)
        a.step(1.0)
    state = {k: v.clone() for k, v in a.state().items()}
    assert "encoder.weight/exp_avg_sq" in state and not any(k.startswith("encoder.bias/") for k in state)
    two.load_state_dict(one.state_dict())
    b = make_groups(two, FitOptions())["main"]
    b.load(state)
    for module, group in ((one, a), (two, b)):
        grads(module, 9)
        group.step(0.5)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))


def test_state_of_a_stranger_or_of_another_shape_is_named(tiny):
    group = make_groups(tiny.Tiny(), FitOptions())["critic"]
    with pytest.raises(RunError, match="group 'critic'.*decoder.bias"):
        group.load({"decoder.bias/step": torch.zeros(())})
    with pytest.raises(RunError, match=r"critic.weight/exp_avg is \(2, 2\)"):
        group.load({"critic.weight/exp_avg": torch.zeros(2, 2)})
