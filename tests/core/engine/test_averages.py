"""Averages of logged values."""

from __future__ import annotations

import pytest
import torch
from gen_core.engine.averages import Averages


def test_means_are_weighted_and_start_anew():
    averages = Averages()
    assert averages.take() == {}
    averages.add("loss", torch.tensor(1.0), 0.25)
    averages.add("loss", torch.tensor(3.0, dtype=torch.bfloat16), 0.75)
    averages.add("codes", torch.tensor([7]))
    assert averages.take() == {"loss": pytest.approx(2.5), "codes": 7.0}
    averages.add("loss", torch.tensor(4.0, requires_grad=True))
    assert averages.take() == {"loss": 4.0}
