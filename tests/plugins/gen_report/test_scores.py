"""Key figures, the verdict on copies, and one table with a column a source."""

from __future__ import annotations

import pytest

from gen_report import scores
from gen_report.gathered import Gathered
from gen_report.report_options import Html


@pytest.fixture
def got(make_run):
    return Gathered(make_run(size=(3, 20, 24)), Html())


def row(got, metric, name):
    block = next(b for b in scores.table(got) if b["metric"] == metric)
    return next(r for r in block["rows"] if r.name == name)


def test_one_score_of_several_sources_is_one_row(got):
    fid = row(got, "fid", "fid")
    assert {s: c[0] for s, c in fid.cells.items()} == {"train": "1.69", "synthetic": "6.086"}
    assert fid.cells["synthetic"][1] == "5.5 … 6.6" and fid.floor == "1.69" and fid.flags == ["N = 40 is small"]
    assert fid.features == "64 features, codec" and fid.counts == "40"


def test_the_same_score_against_reconstructions_is_a_row_of_its_own(got):
    kl = {"name": "kl vessel", "value": 0.02, "source": "synthetic", "against": "reconstruction", "n": 20}
    got.results["spectral-kl"]["values"].append(kl)
    block = next(b for b in scores.table(got) if b["metric"] == "spectral-kl")
    assert [(r.name, r.against, r.cells["synthetic"][0]) for r in block["rows"]] == [
        ("kl vessel", "", "0.15"),
        ("kl vessel", "reconstruction", "0.02"),
    ]


def test_different_numbers_of_volumes_come_in_the_order_of_the_columns(got):
    got.results["fid"]["values"][0]["n"] = 512  # of training volumes, which the metric gives first
    heads = [s for s, _ in scores.columns(got)]
    assert heads.index("synthetic") < heads.index("train")
    assert row(got, "fid", "fid").counts == "40, 512"


def test_five_key_figures_come_in_the_order_of_interest(got):
    tiles = scores.tiles(got)
    assert [(t["name"], t["value"], t["of"]) for t in tiles[:2]] == [
        ("fid", "6.09", "synthetic"),
        ("spectral-kl: kl vessel", "0.15", "synthetic"),
    ]
    assert len(tiles) == 5 and tiles[0]["interval"] == "5.5 … 6.6" and tiles[0]["features"] == "64 features, codec"
    assert not any("copies" in t["name"] for t in tiles), "the verdict says it"


def test_the_verdict_counts_copies_and_names_chance(got):
    said = scores.verdict(got)
    assert said["state"] == "good" and "1 of N = 40 samples (2.5 %)" in said["text"]
    assert "1 % of real validation volumes" in said["text"] and "p = 0.33" in said["text"]


def test_more_copies_than_chance_are_said(got):
    values = got.results["memorization"]["values"]
    values[0]["value"], values[1]["value"] = 0.5, 1e-9
    assert scores.verdict(got)["state"] == "bad" and "20 of N = 40" in scores.verdict(got)["text"]
    got.results["memorization"]["extra"]["verdict"] = {"copies": False}  # the metric's own word counts more
    assert scores.verdict(got)["state"] == "good"


def test_a_flagged_search_is_no_verdict(got):
    got.results["memorization"]["values"][0]["flag"] = "no verdict: only 40 validation volumes (under 100)"
    said = scores.verdict(got)
    assert said["state"] == "open" and "Only 40 validation volumes" in said["text"]
    del got.results["memorization"]["values"][:]
    assert scores.verdict(got)["head"] == "No verdict on copies"
    del got.results["memorization"]
    assert scores.verdict(got) is None
