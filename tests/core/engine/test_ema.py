"""Averages of weights, against a plain float64 loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_core.engine.ema import Ema
from gen_core.errors import RunError


def _walk(module, ema, steps):
    """Move the weights at random; return the trajectory of one weight matrix in float64."""
    g = torch.Generator().manual_seed(0)
    path = []
    for done in range(1, steps + 1):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=g))
        module.seen += 1
        path.append(module.encoder.weight.detach().double().numpy().copy())
        ema.update(done)
    return path


@pytest.mark.parametrize("start, every", [(0, 1), (5, 1), (6, 3), (0, 4)])
def test_the_average_is_the_plain_loops(tiny, start, every):
    module = tiny.Tiny()
    ema = Ema(module, 0.9, start, every)
    path = _walk(module, ema, 20)
    first = max(start, 1)
    average = path[first - 1]
    for done in range(first + 1, 21):
        if done % every == 0:
            average = 0.9 * average + 0.1 * path[done - 1]
    np.testing.assert_allclose(ema.state()["encoder.weight"].double().numpy(), average, atol=1e-6)


def test_before_the_start_the_weights_themselves_are_used(tiny):
    module = tiny.Tiny()
    ema = Ema(module, 0.9, start=30)
    path = _walk(module, ema, 4)
    assert not ema.active and ema.state() == {}
    with ema.applied():
        assert np.array_equal(module.encoder.weight.detach().double().numpy(), path[-1])


def test_applied_swaps_parameters_of_the_first_group_and_shares_buffers(tiny):
    module = tiny.Tiny()
    ema = Ema(module, 0.5)
    _walk(module, ema, 3)
    weight, critic = module.encoder.weight.detach().clone(), module.critic.weight.detach().clone()
    average = ema.state()["encoder.weight"].clone()
    with pytest.raises(ZeroDivisionError), ema.applied():
        assert torch.equal(module.encoder.weight, average) and not torch.equal(average, weight)
        assert torch.equal(module.critic.weight, critic) and module.seen == 3
        raise ZeroDivisionError
    assert torch.equal(module.encoder.weight, weight)
    assert torch.equal(ema.state()["encoder.weight"], average)


def test_state_goes_into_a_fresh_average_and_strangers_are_named(tiny):
    module = tiny.Tiny()
    ema = Ema(module, 0.9)
    _walk(module, ema, 3)
    other = Ema(module, 0.9)
    other.load({k: v.clone() for k, v in ema.state().items()})
    assert other.active and torch.equal(other.state()["norm.bias"], ema.state()["norm.bias"])
    with pytest.raises(RunError, match="critic.bias"):
        other.load({**ema.state(), "critic.bias": torch.zeros(1)})


def test_decay_zero_is_off(tiny):
    ema = Ema(tiny.Tiny(), 0.0)
    ema.update(1)
    assert not ema.active
