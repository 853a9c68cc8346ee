"""Averages of logged values."""

from __future__ import annotations

import json
import math

import pytest
import torch

from gen_core.engine.averages import Averages
from gen_core.engine.ranks import Ranks


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


class Told(Ranks):
    """One of several processes, which hears the others' words."""

    def __init__(self, rank, words):
        self.rank, self.world, self.words = rank, len(words), words

    def gathered(self, value):
        assert self.words[self.rank] == value
        return self.words


def test_as_many_processes_go_on_with_their_own_and_others_with_the_whole():
    several = [Averages(), Averages(), Averages()]
    for rank, each in enumerate(several):
        for _ in range(rank + 1):
            each.add({"loss": torch.rand(()), "codes": torch.rand(())}, 0.3)
            each.add({"grad_norm": torch.rand(())})
    own = [each.state()[0] for each in several]
    state = json.loads(json.dumps(several[2].state(Told(2, own))))
    assert len(state) == 3
    for rank in range(3):
        again = Averages()
        again.load(state, Told(rank, own))
        assert again.state() == [own[rank]]
    pair = [Averages(), Averages()]
    for rank, each in enumerate(pair):
        each.load(state, Told(rank, own[:2]))
    assert pair[1].state() == [[[["loss", "codes"], [0.0, 0.0], 0.0], [["grad_norm"], [0.0], 0.0]]]
    assert [count for *_, count in pair[0].state()[0]] == pytest.approx([1.8, 6])
    alone = Averages()
    alone.load(state)
    sums = [sum(each[i][1][k] for each in own) for i, k in ((0, 0), (0, 1), (1, 0))]
    assert list(alone.take().values()) == pytest.approx([sums[0] / 1.8, sums[1] / 1.8, sums[2] / 6])
