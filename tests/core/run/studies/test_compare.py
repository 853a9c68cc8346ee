"""Runs side by side: what differs, what is refused, the Pareto front, the forms of a table."""

from __future__ import annotations

import copy
import csv
import io
import json
import random

import pytest

from gen_core import atomic
from gen_core.errors import GenError, UsageError
from gen_core.run.studies.compare import compare, draw, split_pair
from gen_core.run.studies.comparison_text import as_csv, latex, markdown, plain
from gen_core.run.studies.scores import pick, read_run

LOCK = """gen = 1
name = "{name}"
[codec]
use = "{codec}"
codes = {codes}
{more}
[codec.fit]
log_every = {codes}
[metrics.fid]
use = "fid"
features = "features.random"
[metrics.kl]
use = "spectral-kl"
segmenter = "segmenter"
[sweep.grid]
"codec.codes" = [1, {codes}]
"""
FID = {"definition": "Frechet", "features": {"name": "random-conv64", "sha256": "a" * 64}, "n": {"synthetic": 5}}


def value(name, value, source="synthetic", **more):
    return {"name": name, "value": value, "source": source, "against": "val", "better": "lower", "n": 5, **more}


@pytest.fixture
def make(tmp_path):
    """make(name, codes=..., fid=..., ...) -> a finished run's folder."""

    def run(name, codes=8, codec="vqgan", more="", fid=1.0, protocol=FID, n=5, segmenter="s", seconds=2.0, **extra):
        folder = tmp_path / "runs" / name
        lock = LOCK.format(name=name, codec=codec, codes=codes, more=more)
        atomic.write_text(folder / "recipe.lock.toml", lock)
        values = [
            value("fid", fid, low=fid - 0.5, high=fid + 0.5, floor=0.25, n=n, flag="few volumes"),
            value("fid", 9.0, "train"),
        ]
        kl = {
            "protocol": {"pixels": {"synthetic": codes}},
            "values": [value("kl a, b", 3.0, better="match", floor=2.0)],
        }
        atomic.write_json(
            folder / "metrics.json", {"results": {"fid": {"protocol": protocol, "values": values}, "kl": kl}}
        )
        atomic.write_json(folder / "cost.json", {"machine": {"cpu": "one"}, **extra})
        costs = {
            "fit.codec": ({"seconds": 10.0, "peak_memory_mb": 70}, {"parameters": 1000}),
            "fit.segmenter": ({"seconds": 1.0, "peak_memory_mb": 90}, {"fingerprint": segmenter}),
            "sample": ({"sampling_seconds": seconds, "decode_seconds": 0.5, "volumes": 5}, {}),
        }
        for step, (cost, done) in costs.items():
            atomic.write_json(folder / "steps" / step / "cost.json", cost)
            atomic.write_json(folder / "steps" / step / "done.json", {"fingerprint": "f", **done})
        return folder

    return run


def test_only_settings_that_differ_are_shown(make):
    found = compare([make("a", codes=8), make("b", codes=16)])
    assert found.differing == ["codec.codes"]  # neither the name, nor the sweep, nor how often it logs
    assert [run.settings["codec.codes"] for run in found.runs] == [8, 16]


NO_SCORES = ("[]", '{"a": 1}', '{"results": 3}', '{"results": {"fid": {}}}', '{"results": {"fid": {"values": [3]}}}')
BAD = [("metrics.json", text) for text in NO_SCORES] + [
    ("recipe.lock.toml", text) for text in ("[]", "gen = 1\n[codec", "gen = 1\n" + "[" * 99_999, "\udcff")
]


@pytest.mark.parametrize("file, text", BAD, ids=range(len(BAD)))
def test_a_damaged_run_is_one_line_that_names_the_file(make, file, text):
    folder = make("a")
    (folder / file).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(GenError) as told:
        compare([folder, make("b")])
    said = str(told.value)
    assert file in said and "\n" not in said and len(said) < 600


@pytest.mark.parametrize("text", ["[]", "[" * 99_999, "3", "{"], ids=range(4))
def test_a_damaged_record_of_costs_counts_as_none(make, text):
    folder = make("a")
    for path in (folder / "cost.json", *folder.glob("steps/*/cost.json")):
        path.write_text(text)
    assert [score.name for score in read_run(folder).scores.values() if score.metric == "cost"] == ["parameters-codec"]


def test_where_the_component_differs_its_own_settings_are_not_listed(make):
    found = compare([make("a", more="width = 3"), make("b", codec="vqvae"), make("c", codes=9)])
    assert found.differing == ["codec.use", "codec.codes"]


def test_costs_come_from_the_steps_even_when_they_were_taken(make):
    whole, taker = make("a"), make("b")
    done = taker / "steps" / "fit.codec" / "done.json"
    (taker / "steps" / "fit.codec" / "cost.json").unlink()
    atomic.write_json(done, {"fingerprint": "f", "reference": "../../../a/steps/fit.codec"})
    for folder in (whole, taker):
        costs = {s.name: s.value for s in read_run(folder).scores.values() if s.metric == "cost"}
        assert costs == {
            "training-seconds": 11.0, "samples-per-second": 2.0, "parameters-codec": 1000, "peak-memory-mb": 90,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": {"name": "inception", "sha256": "a" * 64}},
            "features.name is random-conv64 in a, incep",
        ),
        ({"features": {"name": "random-conv64", "sha256": "b" * 64}}, "features.sha256"),
        ({"definition": "other"}, "definition is Frechet in a, other in b"),
        ({"n": {"synthetic": 6}}, "n.synthetic is 5 in a, 6 in b"),
        ({"triplets": 7}, r"triplets is \(none\) in a, 7 in b"),
    ],
)
def test_scores_made_in_another_way_are_refused_by_both_names(make, change, message):
    runs = [make("a"), make("b", protocol={**copy.deepcopy(FID), **change})]
    with pytest.raises(UsageError, match=f"fid: {message}") as refused:
        compare(runs)
    assert "--metric kl" in str(refused.value)
    assert compare(runs, ["kl"]).refs[0] == "kl:kl a, b:synthetic:val"  # what can be compared still can
    with pytest.raises(UsageError):
        compare(runs, ["kl"], ("samples-per-second", "fid"))


def test_another_number_of_volumes_is_refused(make):
    with pytest.raises(UsageError, match="of N = 5 in a, of N = 4 in b"):
        compare([make("a"), make("b", n=4)])


def test_another_fitted_segmenter_is_another_extractor(make):
    with pytest.raises(UsageError, match="kl: fit.segmenter is s in a, t in b"):
        compare([make("a"), make("b", segmenter="t")])


def test_what_a_metric_found_may_differ(make):
    assert len(compare([make("a", codes=3), make("b", codes=4)], ["kl"]).runs) == 2  # its pixels


def test_a_score_is_found_by_any_part_of_its_name(make):
    scores = list(read_run(make("a")).scores.values())
    assert pick(scores, "fid").source == "synthetic"
    assert pick(scores, "metrics.fid:train").value == 9.0
    assert pick(scores, "kl:kl a, b").value == 3.0
    assert pick(scores, "samples-per-second").metric == "cost"
    with pytest.raises(UsageError, match="no score 'fud'; there are fid, kl.* did you mean 'fid'"):
        pick(scores, "fud")
    with pytest.raises(UsageError, match="there are fid:fid:synthetic:val, fid:fid:train:val"):
        pick(scores, "fid:val:train")


def test_a_pair_is_cut_at_the_comma_that_no_space_follows():
    assert split_pair("samples-per-second,kl:kl a, b:synthetic") == ("samples-per-second", "kl:kl a, b:synthetic")
    for wrong in ("fid", "fid,", "a,b,c", "a, b"):
        with pytest.raises(UsageError, match="--pareto"):
            split_pair(wrong)


def test_the_front_holds_the_runs_that_no_other_beats(make):
    draws = random.Random(3)
    points = {f"r{i}": (draws.randint(1, 9) / 2, draws.randint(1, 9) / 2) for i in range(14)}
    folders = [make(name, fid=fid, seconds=seconds) for name, (seconds, fid) in points.items()]
    found = compare(folders, pareto=("samples-per-second", "fid"))
    # by definition: nobody is at least as good in both and different; fewer seconds are more samples a second
    best = {
        name for name, (s, f) in points.items()
        if not any(o != (s, f) and o[0] <= s and o[1] <= f for o in points.values())
    }  # fmt: skip
    assert found.front == best and 1 < len(best) < 14


def test_a_figure_that_should_match_its_floor_is_judged_by_the_distance(make):
    folders = [make(name, seconds=s) for name, s in (("near", 4.0), ("far", 4.0), ("quick", 1.0))]
    for folder, kl in zip(folders, (2.5, 1.0, 9.0)):
        data = json.loads((folder / "metrics.json").read_text())
        data["results"]["kl"]["values"][0]["value"] = kl
        atomic.write_json(folder / "metrics.json", data)
    assert compare(folders, pareto=("kl", "samples-per-second")).front == {"near", "quick"}


def test_unfinished_runs_are_left_out_and_said(make, tmp_path):
    make("a"), make("b", fid=2.0)
    (tmp_path / "runs" / "b" / "metrics.json").unlink()
    found = compare([tmp_path / "runs"])
    assert [run.name for run in found.runs] == ["a"] and "b: left out" in found.notes[0]
    with pytest.raises(UsageError, match="neither a run nor a folder of runs"):
        compare([tmp_path])


def test_a_sweep_folder_gives_its_children_in_its_order(make, tmp_path):
    make("a"), make("b")
    atomic.write_json(tmp_path / "runs" / "sweep.json", {"children": [{"name": "b"}, {"name": "a"}]})
    assert [run.name for run in compare([tmp_path / "runs"]).runs] == ["b", "a"]


def test_runs_of_one_name_are_told_apart_by_their_parents(make, tmp_path):
    one = make("a")
    other = tmp_path / "more" / "a"
    other.parent.mkdir()
    one.rename(other)
    assert [run.name for run in compare([make("a"), other]).runs] == ["runs/a", "more/a"]


def test_different_machines_are_told(make):
    found = compare([make("a"), make("b", machine={"cpu": "two"})])
    assert any("different machines" in note for note in found.notes)


def test_the_forms_hold_the_same_figures(make):
    found = compare([make("a", codes=8, fid=1.25), make("b", codes=16, fid=2.5)], pareto=("samples-per-second", "fid"))
    text = markdown(found)
    assert "1.25 [0.75, 1.75]" in text and "fid, synthetic ↓ (floor 0.25)" in text
    assert "- fid, fid (synthetic): few volumes" in text and text.count("few volumes") == 1
    assert "2.5 [2, 3]" in plain(found) and "a *" in plain(found)
    assert r"fid, synthetic $\downarrow$" in latex(found) and r"\bottomrule" in latex(found)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [float(row["fid:fid:synthetic:val"]) for row in rows] == [1.25, 2.5]
    assert [row["codec.codes"] for row in rows] == ["8", "16"] and rows[0]["front"] == "True"
    data = json.loads(json.dumps(found.to_json()))
    assert data["runs"][1]["scores"]["fid:fid:synthetic:val"]["floor"] == 0.25


def test_special_signs_are_escaped(make):
    found = compare([make("a_b"), make("c%d|e")])
    assert r"a\_b" in latex(found) and r"c\%d" in latex(found) and r"c%d\|e" in markdown(found)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_front_is_drawn_by_the_report_component(make, tmp_path, suffix):
    runs = [make("a", fid=1.0, seconds=4.0), make("b", fid=2.0), make("c", fid=3.0, seconds=5.0)]
    found = compare(runs, pareto=("samples-per-second", "fid"))
    draw(found, tmp_path / f"front{suffix}")
    first = (tmp_path / f"front{suffix}").read_bytes()
    assert len(first) > 5000
    draw(found, tmp_path / f"front{suffix}")
    assert (tmp_path / f"front{suffix}").read_bytes() == first  # the same picture, byte for byte
    with pytest.raises(UsageError, match=".png or .svg"):
        draw(found, tmp_path / "front.gif")
