"""Conditions as vectors, tokens and channels: what is absent is null whatever its value says."""

import math

import pytest
import torch
from attrs import evolve

from gen_core.condition import Conditions, ConditionSpec
from gen_diffusion.condition_embedding import ConditionEmbedding, grid_channels

SPECS = {
    "type": ConditionSpec("class", ("solid", "part-solid", "ground-glass")),  # "type" is also a method of modules
    "spacing.z": ConditionSpec("scalar", low=0.5, high=5.0),
    "lesion": ConditionSpec("mask", channels=2),
    "coarse": ConditionSpec("volume", channels=3),
}
GRID, N, DIM = (2, 5, 4), 6, 7


def known(seed=0):
    g = torch.Generator().manual_seed(seed)
    values = {
        "type": torch.randint(0, 3, (N,), generator=g),
        "spacing.z": 2 * torch.rand(N, generator=g) - 1,
        "lesion": torch.rand(N, 2, *GRID, generator=g),
        "coarse": torch.randn(N, 3, *GRID, generator=g),
    }
    return Conditions(values, {name: torch.ones(N, dtype=torch.bool) for name in values})


def embedding(tokens=False, specs=SPECS, random=True):
    torch.manual_seed(0)
    made = ConditionEmbedding(specs, DIM, tokens)
    if random:  # what starts at zero would hide every mistake
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.normal_()
    return made


def parts(told):
    return [x for x in (told.vector, told.tokens, told.grid) if x is not None]


@pytest.mark.parametrize("tokens", [False, True])
def test_shapes_are_one_vector_or_a_token_each_and_all_channels_with_their_presence(tokens):
    told = embedding(tokens)(known())
    assert (told.vector is None) == tokens and (told.tokens is None) != tokens
    assert (told.tokens if tokens else told.vector).shape == ((N, 2, DIM) if tokens else (N, DIM))
    assert told.grid.shape == (N, 7, *GRID) and grid_channels(SPECS) == 7


@pytest.mark.parametrize("tokens", [False, True])
def test_absent_values_are_null_whatever_they_say(tokens):
    module, cond = embedding(tokens), known()
    cond.present = {name: torch.tensor([True, False] * 3) for name in SPECS}
    other = cond.take(slice(None))
    missing = ~cond.present["type"]
    other.values["type"] = torch.where(missing, -1, cond.values["type"])
    for name, value in (("spacing.z", math.nan), ("lesion", math.inf), ("coarse", math.nan)):
        there = cond.present[name].view(-1, *[1] * (cond.values[name].dim() - 1))
        other.values[name] = torch.where(there, cond.values[name], value)
    null = parts(module(known().absent()))
    for a, b, nothing in zip(parts(module(cond)), parts(module(other)), null):
        assert torch.equal(a, b) and a.isfinite().all()
        assert torch.equal(a[missing], nothing[missing])
        assert (a[~missing] - nothing[~missing]).abs().amax() > 0.1
    sum(x.square().sum() for x in parts(module(other))).backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_presence_tells_an_empty_mask_from_an_unknown_one():
    cond = known()
    cond.values["lesion"].zero_()
    empty, unknown = embedding()(cond).grid, embedding()(cond.absent()).grid
    assert not torch.equal(empty, unknown)
    lesion = slice(4, 7)  # coarse (3 + 1) comes first: names are sorted
    assert torch.equal(empty[:, lesion].sum(1), torch.ones(N, *GRID)) and unknown.abs().sum() == 0


def test_every_condition_has_its_own_null():
    module, cond = embedding(), known()
    full = module(cond).vector
    for name in ("type", "spacing.z"):
        partly = Conditions(cond.values, cond.present | {name: torch.zeros(N, dtype=torch.bool)})
        assert (module(partly).vector - full).abs().amax(1).min() > 1e-3


def test_added_vectors_start_at_zero_and_tokens_do_not():
    assert embedding(random=False)(known()).vector.abs().max() == 0
    assert embedding(tokens=True, random=False)(known()).tokens.abs().amax(-1).min() > 0.1


def test_classes_are_rows_and_scalars_are_told_apart_finely():
    module = embedding(tokens=True)
    cond = known()
    table = module.vectors["of_type"].weight
    assert table.shape == (4, DIM)
    assert torch.equal(module(cond).tokens[:, 1], table[cond.values["type"]])
    cond.values["spacing.z"] = torch.tensor([-1.0, 1.0, 0.0, 1 / 64, 0.5, 0.5])
    tokens = module(cond).tokens[:, 0]
    assert torch.pdist(tokens[:5]).min() > 0.05
    torch.testing.assert_close(tokens[4], tokens[5])


def test_the_order_in_which_conditions_are_declared_does_not_matter():
    backwards = dict(reversed(SPECS.items()))
    for a, b in zip(parts(embedding()(known())), parts(embedding(specs=backwards)(known()))):
        assert torch.equal(a, b)
    assert list(embedding().state_dict()) == list(embedding(specs=backwards).state_dict())


def test_only_masks_give_no_vector_and_only_vectors_no_grid():
    only = {"lesion": SPECS["lesion"]}
    told = ConditionEmbedding(only, DIM)(Conditions({"lesion": known().values["lesion"]}, known().present))
    assert told.vector is None and told.tokens is None and told.grid.shape[1] == 3
    only = {"type": evolve(SPECS["type"], classes=("one",))}
    told = ConditionEmbedding(only, DIM)(
        Conditions({"type": torch.zeros(2, dtype=torch.int64)}, {"type": torch.ones(2) > 0})
    )
    assert told.grid is None and told.vector.shape == (2, DIM) and grid_channels(only) == 0


def test_bf16_autocast_leaves_the_embedding_in_float32():
    module, cond = embedding(), known()
    want = module(cond)
    with torch.autocast("cpu", torch.bfloat16):
        got = module(cond)
    assert torch.equal(got.vector, want.vector) and got.grid.dtype == torch.float32
