"""Classes and scalars as one vector, and who is told nothing."""

import pytest
import torch

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.errors import RecipeError
from gen_gan.told import Told, complete, of_batch


def test_each_condition_adds_a_vector_and_the_unknown_has_its_own(specs, facts):
    torch.manual_seed(0)
    told, cond = Told(specs, 6), facts(4)
    both = told(cond)
    assert both.shape == (4, 6) and told.dim == 6
    for name in specs:
        absent = {n: (p if n != name else torch.zeros_like(p)) for n, p in cond.present.items()}
        other = told(Conditions(cond.values, absent))
        assert not torch.allclose(other, both)
    nothing = told(cond.absent())
    torch.testing.assert_close(nothing, sum(v for v in told.nulls.values()).expand(4, 6))


def test_the_value_of_what_is_unknown_is_never_looked_at(specs, facts):
    torch.manual_seed(0)
    told, cond = Told(specs, 6), facts(4).absent()
    odd = Conditions({"kind": torch.full((4,), -1), "count": torch.full((4,), torch.nan)}, cond.present)
    assert torch.equal(told(odd), told(cond))
    told(odd).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in told.parameters())


def test_classes_and_scalars_of_different_value_differ():
    torch.manual_seed(0)
    known = {"kind": torch.ones(3, dtype=torch.bool)}
    of_class = Told({"kind": ConditionSpec("class", ("a", "b", "c"))}, 6)
    assert torch.pdist(of_class(Conditions({"kind": torch.tensor([0, 1, 2])}, known))).min() > 0.1
    of_scalar = Told({"kind": ConditionSpec("scalar")}, 6)
    assert torch.pdist(of_scalar(Conditions({"kind": torch.tensor([-1.0, 0.9, 1.0])}, known))).min() > 0.05


def test_without_conditions_there_is_no_vector():
    told = Told({}, 6)
    assert told.dim == 0 and told(None) is None and not list(told.parameters())


def test_masks_are_refused():
    with pytest.raises(RecipeError, match=r'\[condition.lesion\] kind = "mask": .* classes and scalars only'):
        Told({"lesion": ConditionSpec("mask")}, 6)


def test_what_is_missing_is_completed_and_strangers_are_refused(specs):
    device = torch.device("cpu")
    count = {"count": torch.zeros(2)}
    cond = complete(specs, Conditions(count, {"count": torch.ones(2, dtype=torch.bool)}), 2, device)
    assert sorted(cond.values) == ["count", "kind"] and not cond.present["kind"].any() and cond.present["count"].all()
    with pytest.raises(RecipeError, match="was built for kind, count, got: age"):
        complete(specs, Conditions({"age": torch.zeros(2)}, {"age": torch.ones(2)}), 2, device)
    with pytest.raises(RecipeError, match=r"\[condition.count\]: values are \(2,\), expected \(3,\)"):
        complete(specs, Conditions(count, {}), 3, device)


def test_a_share_of_a_batch_is_told_nothing(specs, facts):
    cond = facts(4000)
    batch = Batch(torch.zeros(4000, 1), condition=cond.values | {"other": cond.values["count"]}, present=cond.present)
    told = of_batch(specs, batch, 0.3, torch.Generator().manual_seed(0))
    assert abs(float(told.present["kind"].double().mean()) - 0.7) < 0.03
    assert torch.equal(told.present["kind"], told.present["count"]) and sorted(told.values) == ["count", "kind"]
    assert of_batch(specs, batch, 0.3, None).present["kind"].all()
