"""Functions that a GPU compiles: plain elsewhere, plain where compiling fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gen_core.engine import fused
from gen_core.engine.fused import Fused


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr(Fused, "on", True)


def on_a_gpu(value):
    """Something that says it lies on a GPU."""
    return SimpleNamespace(device=torch.device("cuda"), value=value)


def test_on_the_cpu_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(fused.torch, "compile", lambda *a, **k: pytest.fail("compiled"))
    assert Fused(lambda x, by: x * by)(torch.tensor(3.0), 2) == 6.0


def test_on_a_gpu_it_is_compiled_once(monkeypatch):
    made = []
    monkeypatch.setattr(fused.torch, "compile", lambda f, **k: made.append(f) or (lambda x: x.value + 100))
    function = Fused(lambda x: x.value)
    assert [function(on_a_gpu(i)) for i in range(3)] == [100, 101, 102]
    assert len(made) == 1


def test_where_compiling_fails_the_plain_function_answers_and_all_others_too(monkeypatch):
    def refuse(function, **kwargs):
        def call(x):
            raise RuntimeError("no C compiler\nlong story")

        return call

    monkeypatch.setattr(fused.torch, "compile", refuse)
    first, second = Fused(lambda x: x.value + 1), Fused(lambda x: x.value + 2)
    with pytest.warns(UserWarning, match="one by one: no C compiler$"):
        assert first(on_a_gpu(1)) == 2
    assert first(on_a_gpu(5)) == 6 and second(on_a_gpu(5)) == 7  # and no second warning


def test_lack_of_memory_is_no_reason_to_give_up_compiling(monkeypatch):
    def full(function, **kwargs):
        def call(x):
            raise torch.OutOfMemoryError("full")

        return call

    monkeypatch.setattr(fused.torch, "compile", full)
    with pytest.raises(torch.OutOfMemoryError):
        Fused(lambda x: x)(on_a_gpu(1))
    assert Fused.on
