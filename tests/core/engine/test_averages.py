"""Averages of logged values."""

from __future__ import annotations

import json
import math

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


def test_a_state_in_json_goes_on_to_the_same_bits():
    values = [{"loss": torch.rand(()), "codes": torch.rand(())} for _ in range(5)]
    whole, first, second = Averages(), Averages(), Averages()
    for i, each in enumerate(values):
        whole.add(each, 0.3)
        if i < 2:
            first.add(each, 0.3)
    second.add({"old": torch.tensor(1.0)})
    second.load(json.loads(json.dumps(first.state())))
    for each in values[2:]:
        second.add(each, 0.3)
    assert second.take() == whole.take()
    first.add({"loss": torch.tensor(float("nan"))})
    second.load(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert math.isnan(second.take()["loss"])
