"""The benchmarks' harness keeps what it measured, and the table on their page is made of it."""

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("harness", "marks", "all")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def result(name, seconds, ratio=1.0):
    return {"name": name, "sides": {"ours": {"median_s": seconds, "ratio": ratio, "extra_mb": 3.0}}}


def test_rows_are_kept_and_replaced_by_name(scripts, monkeypatch, tmp_path):
    monkeypatch.setenv("GEN_BENCHMARK_RESULTS", str(tmp_path))
    keep = scripts["harness"].keep
    keep("unet", [result("a", 1.0), result("b", 2.0)])
    keep("unet", [result("b", 5.0)])
    found = json.loads((tmp_path / "unet.json").read_text())
    assert found["script"] == "unet"
    assert [(r["name"], r["sides"]["ours"]["median_s"]) for r in found["rows"]] == [("a", 1.0), ("b", 5.0)]


def test_a_comparison_measures_its_sides_and_keeps_them(scripts, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GEN_BENCHMARK_RESULTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["somewhere/sums.py", "--no-memory"])
    calls = []
    sides = {"long": lambda: calls.append(sum(range(300_000))), "short": lambda: calls.append(sum(range(10)))}
    got = scripts["harness"].compare("sums", sides, rounds=3, warmup=1)
    assert len(calls) == 8  # a warm-up and three rounds of both
    (kept,) = json.loads((tmp_path / "sums.json").read_text())["rows"]
    assert kept == got and kept["sides"]["long"]["ratio"] == 1.0 < kept["sides"]["short"]["ratio"]
    assert {"machine", "date", "load"} <= kept.keys()
    assert "| sums | short |" in capsys.readouterr().out


def test_every_row_of_the_table_has_a_script_that_is_run(scripts):
    for row in scripts["marks"].ROWS:
        assert row.script in scripts["all"].SCRIPTS and (FOLDER / f"{row.script}.py").exists(), row
    assert len({row.what for row in scripts["marks"].ROWS}) == len(scripts["marks"].ROWS)


@pytest.mark.parametrize(
    ("mark", "ours", "said"),
    [
        ({"mark": 2.0}, {"ratio": 2.5}, "2 x: met"),
        ({"mark": 2.0}, {"ratio": 1.5}, "2 x: missed; because"),
        ({"seconds": 0.5}, {"median_s": 0.4}, "500 ms: met"),
        ({"seconds": 0.5, "megabytes": 40}, {"median_s": 0.4, "extra_mb": 50.0}, "500 ms, 40 MB: missed; because"),
        ({}, {}, "-"),
    ],
)
def test_a_mark_says_whether_it_is_met_and_why_not(scripts, mark, ours, said):
    row = scripts["marks"].Row("w", "s", "n", "peer", "ours", missed="because", **mark)
    assert scripts["all"].verdict(row, {"ratio": 1.0, "median_s": 1.0, "extra_mb": None, **ours}) == said


def test_the_table_on_the_page_is_the_one_made_from_the_results(scripts):
    page, table = (FOLDER / "README.md").read_text(), scripts["all"].table()
    between = page.split(scripts["all"].BEGIN)[1].split(scripts["all"].END)[0].strip()
    assert between == table.strip(), "run: python benchmarks/all.py --table"
