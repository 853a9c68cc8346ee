"""The integrator against closed forms and scipy, its steps by sample, its limit."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, solve_ivp

from gen_core.errors import RunError
from gen_core.flow.dormand_prince import ERROR, NODES, STAGES, integrate


def test_the_table_is_the_one_scipy_has():
    for i, row in enumerate(STAGES[:-1]):
        np.testing.assert_allclose(row, RK45.A[i + 1][: len(row)], rtol=1e-14)
    np.testing.assert_allclose(STAGES[-1], RK45.B, rtol=1e-14)
    np.testing.assert_allclose(NODES[:-1], RK45.C, rtol=1e-14)
    np.testing.assert_allclose(np.abs(ERROR), np.abs(RK45.E), rtol=1e-12, atol=1e-16)
    assert sum(ERROR) == pytest.approx(0, abs=1e-15)


def test_a_growth_in_either_direction_has_its_closed_form():
    y = torch.tensor([[1.0], [2.0], [-3.0]], dtype=torch.float64)
    grow = lambda state, x: (state[0] * x[:, None].cos(),)  # y = y_0 exp(sin x)
    (there,) = integrate(grow, (y,), 0.0, 2.0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(there, y * math.exp(math.sin(2.0)), rtol=1e-7, atol=0)
    (back,) = integrate(grow, (there,), 2.0, 0.0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back, y, rtol=1e-7, atol=0)


def test_a_stiff_oscillator_agrees_with_scipy():
    """Van der Pol: steps must shrink and grow many times."""
    slope = lambda a: np.stack([a[1], 5 * (1 - a[0] ** 2) * a[1] - a[0]])
    truth = solve_ivp(lambda _, a: slope(a), (0, 10), [2.0, 0.3], method="DOP853", rtol=1e-11, atol=1e-11).y[:, -1]

    def ours(state, x):
        a, b = state[0].unbind(1)
        return (torch.stack([b, 5 * (1 - a**2) * b - a], 1),)

    start = torch.tensor([[2.0, 0.3]], dtype=torch.float64)
    (y,) = integrate(ours, (start,), 0.0, 10.0, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(y[0].numpy(), truth, rtol=1e-5)


def test_a_sample_takes_its_own_steps_whatever_its_neighbours():
    rate = torch.tensor([1.0, 40.0, 7.0], dtype=torch.float64)
    seen = []

    def slope(state, x):
        seen.append(x.clone())
        return (-rate[: len(x)].reshape(-1, 1) * (state[0] - x[:, None].sin()),)

    y = torch.ones(3, 1, dtype=torch.float64)
    (whole,) = integrate(slope, (y,), 0.0, 3.0)
    assert any(len(set(x.tolist())) > 1 for x in seen)
    (alone,) = integrate(slope, (y[:1],), 0.0, 3.0)
    assert torch.equal(whole[:1], alone)


def test_all_parts_of_a_state_keep_the_tolerance():
    def slope(state, x):
        return torch.zeros_like(state[0]), 30 * (30 * x).cos()

    still, wave = integrate(slope, (torch.ones(2, 5), torch.zeros(2, dtype=torch.float64)), 0.0, 1.0)
    assert torch.equal(still, torch.ones(2, 5)) and still.dtype == torch.float32
    torch.testing.assert_close(wave, torch.full((2,), math.sin(30.0), dtype=torch.float64), rtol=0, atol=1e-3)


def test_too_many_evaluations_end_in_one_line():
    jump = lambda state, x: (1e9 * torch.sign(0.5 - x)[:, None] * torch.rand_like(state[0]),)
    with pytest.raises(RunError, match="more than 60 evaluations; raise rtol and atol"):
        integrate(jump, (torch.ones(2, 3),), 0.0, 1.0, evaluations=60)


def test_slopes_that_are_not_finite_do_not_pass_as_good():
    with pytest.raises(RunError):
        integrate(lambda s, x: (s[0] * torch.nan,), (torch.ones(2, 3),), 0.0, 1.0, evaluations=60)
