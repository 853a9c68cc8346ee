"""One tidy table of everything."""

from __future__ import annotations

import csv

import pytest

from gen_core.testing import check_tracker
from gen_core.tracker import Point, Score, TrackedRun
from gen_trackers.csv_table import COLUMNS, CsvTable
from gen_trackers.tracker_options import Csv


@pytest.fixture
def table(tmp_path):
    found = CsvTable(Csv(), None)
    found.start(TrackedRun("small", "id", tmp_path))
    return found


def rows(folder):
    return list(csv.reader((folder / "scalars.csv").read_text().splitlines()))


def test_it_keeps_the_contract(tmp_path):
    check_tracker(lambda: CsvTable(Csv(), None), tmp_path)


def test_every_value_is_a_row_and_comes_back_exactly(table, tmp_path):
    table.points("fit.codec", [Point("train", 10, {"loss": 0.1 + 0.2, 'disc, "a"/loss': -1e-30}, 5.0)], True)
    table.points("fit.codec", [Point("validation", 10, {"l1": 1 / 3})], False)
    table.scores([Score("fid", "fid", 12.5, "synthetic", "train", low=11.0, high=14.0), Score("psnr", "psnr", 30.0)])
    table.end("done", None)
    assert rows(tmp_path) == [
        list(COLUMNS),
        ["fit.codec", "train", "10", "loss", "", "", "0.30000000000000004", "", ""],
        ["fit.codec", "train", "10", 'disc, "a"/loss', "", "", "-1e-30", "", ""],
        ["fit.codec", "validation", "10", "l1", "", "", "0.3333333333333333", "", ""],
        ["evaluate", "score", "", "fid/fid", "synthetic", "train", "12.5", "11.0", "14.0"],
        ["evaluate", "score", "", "psnr/psnr", "", "", "30.0", "", ""],
    ]


def test_a_fit_that_goes_back_leaves_no_double(table, tmp_path):
    point = lambda step: Point("train", step, {"loss": 1.0 / step})
    table.points("fit.codec", [point(2), point(4), point(6)], True)
    table.points("fit.prior", [point(1)], True)
    table.points("fit.codec", [point(2)], True)
    table.points("fit.codec", [point(4), point(6)], False)
    table.end("done", None)
    assert [(row[0], row[2]) for row in rows(tmp_path)[1:]] == [
        ("fit.codec", "2"), ("fit.codec", "4"), ("fit.codec", "6"), ("fit.prior", "1")
    ]  # fmt: skip


def test_a_long_table_is_not_written_with_every_look_but_at_the_end(table, tmp_path, monkeypatch):
    clock = iter([0.0, 100.0, 101.0, 102.0, 5000.0, 5001.0, 5002.0, 6000.0, 6001.0])
    monkeypatch.setattr("gen_trackers.csv_table.time.monotonic", lambda: next(clock))
    point = lambda step: Point("train", step, {"loss": 1.0})
    table.points("fit.codec", [point(1)], True)
    table.flush()  # asked at 0, written from 100 to 101: not again before 151
    assert len(rows(tmp_path)) == 2
    table.points("fit.codec", [point(2)], False)
    table.flush()  # at 102
    assert len(rows(tmp_path)) == 2
    table.flush()  # at 5000
    assert len(rows(tmp_path)) == 3
    table.points("fit.codec", [point(3)], False)
    table.end("done", None)
    assert len(rows(tmp_path)) == 4
