"""From [sweep] to children: combinations, names, what is excluded or makes no sense."""

from __future__ import annotations

import pytest

from gen_core.errors import UsageError
from gen_core.options import SweepOptions
from gen_core.run.studies.grid import combinations, named, parse_axis


def children_of(options):
    return [name for name, _ in named(combinations(options), options)]


def test_every_case_meets_every_combination_of_the_grid():
    options = SweepOptions(
        grid={"prior.base": [8, 16], "codec.stride": [[4, 8, 8]]},
        cases={"gan": {"codec.use": "vqgan"}, "vae": {"codec.use": "vqvae", "codec.codes": 7}},
    )
    found = named(combinations(options), options)
    assert [name for name, _ in found] == [
        "gan-base8-stride4x8x8", "gan-base16-stride4x8x8", "vae-base8-stride4x8x8", "vae-base16-stride4x8x8",
    ]  # fmt: skip
    assert found[2][1] == {"prior.base": 8, "codec.stride": [4, 8, 8], "codec.use": "vqvae", "codec.codes": 7}


def test_names_are_as_short_as_the_keys_allow():
    grid = {"codec.fit.lr": [1e-3], "prior.fit.lr": [0.5], "codec.use": ["vqgan"], "report.off": [True], "seed": [3]}
    assert children_of(SweepOptions(grid=grid)) == ["codec.fit.lr0.001-prior.fit.lr0.5-codec-vqgan-off-on-seed3"]


def test_what_is_excluded_is_left_out_and_must_exist():
    options = SweepOptions(grid={"a.x": [1, 2]}, cases={"p": {}, "q": {}}, exclude=({"case": "q", "a.x": 2},))
    assert children_of(options) == ["p-x1", "p-x2", "q-x1"]
    with pytest.raises(UsageError, match="exclude: no child has"):
        combinations(SweepOptions(grid={"a.x": [1, 2]}, exclude=({"a.x": 3},)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SweepOptions(), "nothing to sweep"),
        (SweepOptions(grid={"a.x": list(range(17))}), "17 children, at most 16"),
        (SweepOptions(grid={"a.x": [1, 1]}), "two children would be called 'x1'"),
        (SweepOptions(grid={"a.x": [1]}, cases={"p": {"a.x": 2}}), "sets what the grid sets too"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        children_of(options)


def test_values_of_an_axis_are_toml_or_text():
    assert parse_axis("codec.codes=64,256") == ("codec.codes", [64, 256])
    assert parse_axis("codec.stride=[8,8,8],[4,8,8]") == ("codec.stride", [[8, 8, 8], [4, 8, 8]])
    assert parse_axis("sampler.use=ddim,dpm++2m") == ("sampler.use", ["ddim", "dpm++2m"])
    with pytest.raises(UsageError, match="expected key=a,b,c"):
        parse_axis("codec.codes")
