"""The DDPM around any network: who is told what in training, in validation and when denoising."""

import pytest
import torch
from attrs import evolve, frozen

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.ddpm.discrete_ddpm import DiscreteDdpm
from gen_core.errors import RecipeError
from gen_core.prior import PriorContext
from gen_core.testing import check_prior
from gen_core.trainable import Step

SHAPE = (2, 3, 4, 5)
SPECS = {"sex": ConditionSpec("class", ("f", "m")), "lesion": ConditionSpec("mask")}


@frozen
class Settings:
    steps: int = 20
    schedule: str = "cosine"
    s: float = 0.008
    clip: float = 0.9999
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    predict: str = "eps"
    loss: str = "l2"
    min_snr_gamma: float = 0.0
    drop_condition: float = 0.1


class OneNumber(DiscreteDdpm):
    """A whole prior in eight lines: the network is a scale and an offset that depends on the step."""

    def __init__(self, options, context):
        super().__init__(options, context)
        self.scale = torch.nn.Parameter(torch.tensor([0.5, 0.1]))
        self.seen = []

    def predict(self, z_t, t, cond):
        self.seen.append(cond)
        return self.scale[0] * z_t + self.scale[1] * t.float().view(-1, 1, 1, 1, 1)


def prior(specs=SPECS, **kw):
    return OneNumber(evolve(Settings(), **kw), PriorContext(shape=SHAPE, conditions=specs))


def step(seed=0):
    return Step(0, 0, 10, torch.Generator().manual_seed(seed), torch.device("cpu"))


def batch(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    values = {"sex": torch.ones(n, dtype=torch.int64), "lesion": torch.rand(n, 1, *SHAPE[1:], generator=g)}
    present = {"sex": torch.arange(n) % 4 != 0, "lesion": torch.ones(n, dtype=torch.bool)}
    return Batch(torch.randn(n, *SHAPE, generator=g), condition=values, present=present)


def test_a_network_of_two_numbers_keeps_the_contract():
    check_prior(prior({}))


def test_a_share_of_the_training_samples_is_told_nothing_at_all():
    p, data = prior(drop_condition=0.25), batch(4000)
    list(p.training_step(data, step()))
    (cond,) = p.seen
    told = cond.present["lesion"]
    assert 0.72 < told.float().mean() < 0.78
    assert torch.equal(cond.present["sex"], data.present["sex"] & told)  # one draw for all conditions
    assert cond.values["lesion"][~told].abs().max() == 0
    assert torch.equal(cond.values["lesion"][told], data.condition["lesion"][told])
    again = prior(drop_condition=0.25)
    list(again.training_step(data, step()))
    assert torch.equal(again.seen[0].present["lesion"], told)


def test_the_share_changes_neither_times_nor_noise():
    losses = []
    for p in (prior(drop_condition=0.0), prior(drop_condition=1.0), prior({})):
        (part,) = p.training_step(batch(8), step())
        losses.append(part.losses["loss"].item())
    assert losses[0] == losses[1] == losses[2]  # this network looks at no condition


def test_validation_tells_everything_that_is_known():
    p, data = prior(drop_condition=1.0), batch(8)
    p.validation_step(data, step())
    assert torch.equal(p.seen[0].present["sex"], data.present["sex"]) and p.seen[0].present["lesion"].all()


def test_what_is_not_given_is_not_present():
    p, z, t = prior(), torch.randn(3, *SHAPE), torch.ones(3)
    p.denoise(z, t)
    p.denoise(z, t, Conditions({"sex": torch.ones(3, dtype=torch.int64)}, {"sex": torch.ones(3) > 0}))
    nothing, partly = p.seen
    assert set(nothing.values) == set(SPECS) and not any(v.any() for v in nothing.present.values())
    assert partly.present["sex"].all() and not partly.present["lesion"].any()
    assert partly.values["lesion"].shape == (3, 1, *SHAPE[1:])
    plain = prior({})
    plain.denoise(z, t, Conditions())
    assert plain.seen == [None]


def test_a_batch_may_carry_more_than_was_declared():
    p = prior({"sex": SPECS["sex"]})
    list(p.training_step(batch(4), step()))
    assert set(p.seen[0].values) == {"sex"}


@pytest.mark.parametrize(
    ("specs", "values", "message"),
    [
        (SPECS, {"age": torch.zeros(3)}, "was built for lesion, sex, got: age"),
        ({}, {"age": torch.zeros(3)}, "was built without conditions, got: age"),
        (SPECS, {"sex": torch.zeros(2)}, r"\[condition.sex\]: values are \(2,\), expected \(3,\)"),
        (SPECS, {"lesion": torch.zeros(3, 1, 8, 4, 5)}, r"\(3, 1, 8, 4, 5\), expected \(3, 1, 3, 4, 5\)"),
    ],
)
def test_conditions_that_do_not_fit_are_named(specs, values, message):
    present = {name: torch.ones(len(v), dtype=torch.bool) for name, v in values.items()}
    with pytest.raises(RecipeError, match=message):
        prior(specs).denoise(torch.randn(3, *SHAPE), torch.ones(3), Conditions(values, present))
