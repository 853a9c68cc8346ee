"""Recorded graphs: what is recorded once and played often, and what happens where nothing can be recorded.

A CPU records nothing, so a stand-in records here: it keeps memory as a graph does. `tests/gpu` has the real one.
"""

from __future__ import annotations

import torch

from gen_core.engine.graph_capture import Captured


def twice(z, t):
    return 2 * z, z + t[:, None]


class StandIn:
    """Plays in fixed memory: results that are not copied out are overwritten by the next play."""

    def __init__(self):
        self.recorded = 0

    def __call__(self, function, inputs):
        self.recorded += 1
        fixed = tuple(x.clone() for x in inputs)
        results = function(*fixed)

        def play(*given):
            for ours, theirs in zip(fixed, given):
                ours.copy_(theirs)
            for old, new in zip(results, function(*fixed)):
                old.copy_(new)
            return tuple(x.clone() for x in results)

        return play


def test_every_set_of_shapes_is_recorded_once_and_gives_the_plain_numbers():
    record = StandIn()
    captured = Captured(twice, record=record)
    kept = []
    for n in (2, 3, 2, 3, 2):
        z, t = torch.randn(n, 4), torch.rand(n)
        kept.append((captured(z, t), twice(z, t)))
    assert record.recorded == 2
    for got, want in kept:  # earlier results too: they are copies
        assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_what_cannot_be_recorded_is_computed_plainly_and_said_once():
    said, tries = [], []

    def refuse(function, inputs):
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    captured = Captured(twice, said.append, refuse)
    z, t = torch.randn(2, 4), torch.rand(2)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(captured(z, t), twice(z, t)))
    assert said == ["sampling without a recorded graph: operation not permitted when stream is capturing"]
    assert len(tries) == 1
