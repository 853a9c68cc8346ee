"""Figures and durations in words, and the notes that make a demonstration."""

from __future__ import annotations

import pytest

from gen_report import tables
from gen_report.figures_curves import by_stage, thinned
from gen_report.figures_spectra import physical
from gen_report.gathered import Gathered
from gen_report.report_options import Html


def test_few_volumes_are_said_at_the_top(make_run):
    run = make_run(size=(3, 20, 24))
    assert tables.headline(Gathered(run, Html()))["notes"] == [
        "one subject: regions of it",
        "only 20 val volumes",
        "fit.codec: [codec] the perceptual loss is off",
    ]


def test_steps_come_in_the_order_of_the_run_with_their_parameters(make_run):
    cost = tables.cost(Gathered(make_run(size=(3, 20, 24)), Html()))
    assert [r["step"] for r in cost["rows"]] == ["prepare", "fit.codec", "encode", "fit.prior", "sample", "evaluate"]
    codec = cost["rows"][1]
    assert codec["parameters"] == "5.9 M" and codec["updates"] == "2,100" and codec["share"] == 100
    facts = dict(cost["facts"])
    assert facts["parameters"] == "5.9 M (codec), 38.3 M (prior)" and facts["peak memory"] == "1.17 GiB"
    assert facts["a sample"] == "0.5 s with decoding" and facts["hours"] == "0.077"


def test_rejected_samples_are_listed_with_all_their_reasons(make_run):
    got = Gathered(make_run(size=(3, 20, 24)), Html())
    got.rejected = got.run.rejected()
    found = tables.rejected(got)
    assert found["by"] == "metrics.memorization" and found["n"] == 2 and found["more"] == 0
    assert found["rows"][0] == ("sample 41", "memorization: a copy of train-041; black")
    got.run.recipe, got.rejected = {}, {}
    assert tables.rejected(got) is None


def test_precision_is_told_before_and_after(make_run):
    found = dict(tables.segmentation(Gathered(make_run(size=(3, 20, 24)), Html())))
    assert found["vein"][:2] == ["0.720 ± 0.100", "0.970 ± 0.020"] and found["vein"][-1] == "20"


def test_spectra_come_back_to_physical_units(make_run):
    run = make_run(size=(4, 20, 24))
    hi = run.spec.scale.hi.ravel()
    mean, sd = physical(run.spec, [0.0, 1.0, -1.0, 0.5], [0.2] * 4)
    assert mean == pytest.approx([hi[0] / 2, hi[1], 0, hi[3] * 0.75]) and sd == pytest.approx(0.1 * hi)


def test_curves_leave_out_what_is_no_number_and_thin_by_means():
    events = [{"kind": "train", "stage": "s", "step": k, "values": {"loss": float(k), "bad": None}} for k in range(10)]
    events += [{"kind": "checkpoint", "stage": "s", "step": 9}]
    found = by_stage(events)
    assert list(found) == ["s"] and list(found["s"]) == ["loss"]
    steps, values = thinned(found["s"]["loss"]["train"], points=4)
    assert values.tolist() == [1.0, 4.0, 7.0] and steps.tolist() == [1.0, 4.0, 7.0]
