"""The ceiling of the label: Hotelling's weights by their closed form, and an observer between chance and the bound."""

import numpy as np
import pytest
from scipy.stats import norm

from gen_hyperspectral.phantom.dataset_options import RetinaPhantom
from gen_hyperspectral.phantom.deposit_ceiling import deposit_ceiling, hotelling

SIZE = (4, 36, 41)


def test_hotelling_weights_are_those_of_fishers_discriminant():
    g = np.random.default_rng(0)
    L = np.array([[1.0, 0, 0], [0.7, 0.5, 0], [0.1, -0.3, 0.8]])
    delta = np.array([0.9, 0.1, -0.4])
    absent = g.standard_normal((20000, 3)) @ L.T
    present = g.standard_normal((20000, 3)) @ L.T + delta
    S_inv = np.linalg.inv(L @ L.T)
    d = np.sqrt(delta @ S_inv @ delta)
    np.testing.assert_allclose(hotelling(absent, present), S_inv @ delta / d, rtol=0.06, atol=0.03)
    scores = [rows @ hotelling(absent, present) for rows in (absent, present)]
    assert scores[1].mean() - scores[0].mean() == pytest.approx(d, rel=0.03)


def test_the_observer_lies_between_chance_and_the_bound():
    c = deposit_ceiling(RetinaPhantom(deposits=0.5), SIZE, eyes=60)
    assert 0.6 < c.observer < c.bound + 0.03
    assert c.bound == pytest.approx(norm.cdf(0.15 / 0.075 / 2**0.5))
    assert c.binormal == pytest.approx(c.observer, abs=0.08)


def test_stronger_deposits_are_told_better_and_faint_ones_hardly():
    make = lambda strength: deposit_ceiling(RetinaPhantom(deposits=0.5, deposit_strength=strength), SIZE, eyes=40)
    assert make(0.4).observer > 0.95
    assert make(0.01).observer == pytest.approx(0.53, abs=0.08)


def test_a_ceiling_needs_deposits_and_eyes():
    with pytest.raises(ValueError, match="deposits > 0"):
        deposit_ceiling(RetinaPhantom(), SIZE)
    with pytest.raises(ValueError, match="strength > 0"):
        deposit_ceiling(RetinaPhantom(deposits=0.5, deposit_strength=0.0), SIZE)
    with pytest.raises(ValueError, match="at least 8 eyes"):
        deposit_ceiling(RetinaPhantom(deposits=0.5), SIZE, eyes=4)
