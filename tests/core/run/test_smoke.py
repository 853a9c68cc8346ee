"""The smoke form of a recipe."""

from __future__ import annotations

from attrs import Factory, field, frozen

from gen_core.options import FitOptions
from gen_core.run.smoke import smoke_options


@frozen
class Inner:
    width: int = field(default=64, metadata={"smoke": 2})
    depth: int = 3


@frozen
class Outer:
    base: int = field(default=512, metadata={"smoke": 16})
    kept: float = 0.5
    inner: Inner = Factory(Inner)
    fit: FitOptions = Factory(lambda: FitOptions(steps=1000, batch=10, accumulate=5, lr=0.1, warmup=50))


def test_marked_settings_shrink_and_the_others_stay():
    small = smoke_options(Outer())
    assert (small.base, small.kept, small.inner) == (16, 0.5, Inner(width=2, depth=3))


def test_a_fit_shrinks_to_two_updates_of_two_volumes():
    fit = smoke_options(Outer()).fit
    assert (fit.steps, fit.batch, fit.accumulate, fit.warmup, fit.lr) == (2, 2, 1, 0, 0.1)
