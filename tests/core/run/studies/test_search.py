"""What optuna proposes: a known minimum is found, the same history gives the same proposal."""

from __future__ import annotations

import sys

import pytest

from gen_core.errors import MissingError
from gen_core.options import SearchOptions
from gen_core.run.studies.search import ask


@pytest.mark.parametrize("wrong", [{}, {"low": 1.0}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="low < high|above 0"):
        SearchOptions(**wrong)


def test_a_search_finds_the_bottom_of_a_parabola():
    pytest.importorskip("optuna")
    space = {"x": SearchOptions(low=-4.0, high=4.0), "kind": SearchOptions(choices=([1, 2], [3]))}
    tried = []
    while len(tried) < 40:
        for settings in ask(space, tried, 2, seed=0, maximize=False):
            assert -4 <= settings["x"] <= 4 and settings["kind"] in ([1, 2], [3])
            tried.append((settings, (settings["x"] - 1.5) ** 2 + len(settings["kind"])))
    best = min(tried, key=lambda t: t[1])
    assert abs(best[0]["x"] - 1.5) < 0.3 and best[0]["kind"] == [3]


def test_a_proposal_depends_on_seed_and_history_alone():
    pytest.importorskip("optuna")
    space = {"lr": SearchOptions(low=1e-5, high=1e-2, log=True), "n": SearchOptions(low=1, high=9)}
    history = [({"lr": 1e-4, "n": 3}, 0.5), ({"lr": 1e-3, "n": 4}, None)]
    first, second = (ask(space, history, 2, seed=5, maximize=True) for _ in range(2))
    assert first == second and isinstance(first[0]["n"], int)
    assert first != ask(space, history, 2, seed=6, maximize=True)


def test_the_search_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingError, match=r"gen-imaging\[sweep\]"):
        ask({"x": SearchOptions(low=0, high=1)}, [], 1, 0, False)
