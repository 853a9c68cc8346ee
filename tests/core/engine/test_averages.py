"""Averages of logged values."""

from __future__ import annotations

import pytest
import torch

from gen_core.engine.averages import Averages


def test_means_are_weighted_and_start_anew():
    averages = Averages()
    assert averages.take() == {}
    averages.add({"loss": torch.tensor(1.0), "codes": torch.tensor([7])}, 0.25)
    averages.add({"loss": torch.tensor(3.0, dtype=torch.bfloat16)}, 0.75)
    assert averages.take() == {"loss": pytest.approx(2.5), "codes": 7.0}
    averages.add({"loss": torch.tensor(4.0, requires_grad=True)})
    averages.add({})
    assert averages.take() == {"loss": 4.0}


def test_a_value_is_taken_as_it_was_when_added():
    averages, buffer = Averages(), torch.tensor(2.0)
    averages.add({"p": buffer})
    buffer.fill_(9.0)
    averages.add({"p": buffer})
    assert averages.take() == {"p": 5.5}
