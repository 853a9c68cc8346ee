"""The studies' part of the results: what a claim's sentence says, and that a page keeps what is not ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gen_core.run.studies.scores import Run, Score

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "studies.py"


@pytest.fixture(scope="module")
def studies():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # it imports what lies beside it
        yield loaded()


def loaded():
    spec = importlib.util.spec_from_file_location("studies", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(codes, value, spread=0.1, base=8):
    ends = {} if spread is None else {"low": value - spread, "high": value + spread}
    score = Score("hyperspectral-fid", "hyperspectral-fid", value, "reconstruction", "val", better="lower", **ends)
    return Run(f"r{codes}-{base}", Path("r"), {"codec.codes": codes, "prior.base": base}, {score.ref: score}, {})


@pytest.mark.parametrize(
    ("few", "many", "spread", "alike", "says"),
    [
        (1.0, 2.0, 0.1, False, "here 1 against 2; **agrees**."),
        (1.0, 1.1, 0.1, False, "in direction, but the intervals overlap"),
        (2.0, 1.0, 0.1, False, "**does not agree**."),
        (1.1, 1.0, 0.1, False, "the other way, within the intervals"),
        (1.0, 1.1, 0.1, True, "**agrees**: the intervals overlap"),
        (1.0, 2.0, 0.1, True, "**does not agree**: the intervals lie apart"),
        (1.0, 2.0, None, False, "**cannot be said**: figures without intervals"),
    ],
)
def test_a_claim_becomes_a_sentence(studies, few, many, spread, alike, says):
    least, most = studies.codec(codes="least"), studies.codec(codes="most")
    claim = studies.Claim("fewer are nearer", studies.RECON, least, most, (3.0, 4.0), alike)
    text = studies.verdict(claim, [run(7, few, spread), run(70, 5.0, spread), run(700, many, spread)])
    assert "published 3 against 4" in text and says in text


def test_runs_are_paired_by_the_width_of_their_prior(studies):
    least, most = studies.codec(codes="least"), studies.codec(codes="most")
    claim = studies.Claim("c", studies.RECON, least, most, (1.0, 2.0))
    text = studies.verdict(claim, [run(7, 1.0), run(7, 9.0, base=16), run(700, 2.0)])
    assert "here 1 against 2" in text  # the run without a partner does not count
    assert "runs or scores are missing" in studies.verdict(claim, [])


def test_every_claim_names_settings_that_the_twin_sweeps(studies):
    from gen_core.run.studies.sweep import Sweep, SweepRequest

    for study in studies.STUDIES:
        sweep = Sweep(SweepRequest(SCRIPT.parents[1] / "recipes" / "studies" / f"{study.name}_phantom.toml"))
        sweep.fill()
        runs = [Run(c.name, c.folder, c.settings, {}, {}) for c in sweep.children]
        for claim in study.claims:
            assert studies.having(runs, claim.lower) and studies.having(runs, claim.higher), claim.text
        assert all(row.count("|") == studies.HEAD.count("|") for row in study.published.values())


def test_only_what_lies_between_the_markers_is_replaced(studies):
    first = studies.page("# Results\n\nmine\n", "one")
    second = studies.page(first + "\nmine too\n", "two")
    assert "mine" in second and "mine too" in second and "two" in second and "one" not in second
    assert studies.page(second, "two") == second
