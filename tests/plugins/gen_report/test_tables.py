"""Figures and durations in words, and the notes that make a demonstration."""

from __future__ import annotations

import json

import pytest

from gen_report import tables
from gen_report.figures_curves import by_stage, thinned
from gen_report.figures_spectra import physical
from gen_report.gathered import Gathered, step_record
from gen_report.report_options import Html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (33.4123, "33.41"),
        (0.0, "0"),
        (3.2e-6, "3.200e-06"),
        (12345.6, "12346"),
        (None, "–"),
        (float("nan"), "not finite"),
        (40, "40"),
    ],
)
def test_numbers_read_well(value, text):
    assert tables.number(value) == text


def test_durations_and_counts_read_well():
    assert [tables.duration(s) for s in (0.84, 42, 200, 18_730)] == [
        "0.8 s",
        "42 s",
        "3 min 20 s",
        "5 h 12 min",
    ]
    assert [tables.count(n) for n in (912, 38_300, 5_930_000)] == ["912", "38,300", "5.9 M"]


def test_few_volumes_are_said_at_the_top(make_run):
    run = make_run(size=(3, 20, 24))
    assert tables.headline(Gathered(run, Html()))["notes"] == [
        "one subject: regions of it",
        "only 20 val volumes",
    ]


def test_steps_come_in_the_order_of_the_run_with_their_parameters(make_run):
    run = make_run(size=(3, 20, 24))
    folder = run.folder / "steps" / "fit.codec"
    folder.mkdir(parents=True)
    (folder / "done.json").write_text(json.dumps({"parameters": 5_930_000, "steps": 2100}))
    rows = tables.cost(Gathered(run, Html()))["rows"]
    assert [r["step"] for r in rows] == ["prepare", "fit.codec", "encode", "fit.prior", "sample", "evaluate"]
    assert rows[1]["parameters"] == "5.9 M" and rows[1]["updates"] == "2,100" and rows[1]["share"] == 100


def test_a_shared_step_is_read_where_it_lies(tmp_path):
    for run, record in (("a", {"parameters": 7}), ("b", {"reference": "../../../a/steps/fit.codec"})):
        folder = tmp_path / run / "steps" / "fit.codec"
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps(record))
    assert step_record(tmp_path / "b", "fit.codec")["parameters"] == 7
    assert step_record(tmp_path / "c", "fit.codec") == {}


def test_the_tiles_prefer_samples_to_reconstructions(make_run):
    tiles = tables.tiles(Gathered(make_run(size=(3, 20, 24)), Html()))
    assert [(t["name"], t["value"], t["of"]) for t in tiles[:2]] == [
        ("psnr", "33.4", "reconstruction"),
        ("fid", "6.09", "synthetic"),
    ]


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
