"""Trackers beside a run: they see what it writes, and whatever they do, it goes on as if there were none."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest

from gen_core.component import Component
from gen_core.engine.ranks import Ranks
from gen_core.errors import UsageError
from gen_core.registry import Registry
from gen_core.run import api, runner
from gen_core.run.api import RunRequest, run
from gen_core.run.tracking import beside as tracking

METHODS = ("start", "points", "flush", "scores", "end")
STRANGER = textwrap.dedent(
    '''
    """A tracker that writes down what it is told, and does harm where it is asked to."""
    import json, os, random, time
    from attrs import asdict, frozen
    from gen_core.tracker import Tracker


    @frozen
    class Options:
        at: str = ""
        how: str = "raise"
        note: str = "not told"


    def harm(how):
        print("something a tracker prints")
        if how == "hang":
            time.sleep(600)
        if how == "die":
            os._exit(0)
        if how == "leave":
            raise SystemExit(3)
        raise OSError(28, "No space left on device")


    class Stranger(Tracker):
        def __init__(self, options, context):
            self.options, self.calls = options, []

        def note(self, name, *told):
            self.calls.append([name, *told])
            if self.options.at == name:
                harm(self.options.how)

        def start(self, run):
            self.run = run
            self.note("start", run.name, run.id, run.recipe)

        def points(self, stage, points, anew):
            self.note("points", stage, [p.step for p in points], anew)

        def flush(self):
            self.note("flush")

        def scores(self, scores):
            self.note("scores", [asdict(s) for s in scores])

        def end(self, state, report):
            self.note("end", state, None if report is None else report.name)
            (self.run.folder / "calls.json").write_text(json.dumps(self.calls))
    '''
)


class Said:
    """A progress display that keeps what was said."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, name):
        return (lambda line: self.lines.append(line)) if name == "say" else lambda *_: None

    @property
    def of_trackers(self):
        return sorted(line for line in self.lines if line.startswith("[trackers."))


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A registry in which a tracker of somebody else is installed."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = Registry.load("off")
    at = ("stranger:Options", "stranger:Stranger", 1, "", "stranger", "gen-stranger", "1.0")
    found.components["tracker", "stranger"] = [Component("tracker", "stranger", *at)]
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls: found))


def digests(folder):
    """SHA-256 of all that must not depend on trackers: all files but clocks, the locked recipe, and their folder."""
    kept = [p for p in folder.rglob("*") if p.is_file() and tracking.FOLDER not in p.relative_to(folder).parts]
    clocks = ("cost.json", "timed.json", "events.jsonl", "machine.json", "done.json", "recipe.lock.toml", ".lock")
    kept = [p for p in kept if p.name not in clocks and "checkpoints" not in p.parts]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def fingerprints(folder):
    return {p.parent.name: json.loads(p.read_text())["fingerprint"] for p in folder.glob("steps/*/done.json")}


def calls(folder, name):
    return json.loads((folder / tracking.FOLDER / name / "calls.json").read_text())


def test_trackers_that_raise_at_each_of_their_methods_leave_the_run_as_it_is(recipe, tmp_path, stranger):
    plain = run(RunRequest(recipe, out=tmp_path / "one" / "plain")).folder
    asked = [f'trackers.{name}={{use="stranger", at="{name}"}}' for name in METHODS]
    asked += ['trackers.good={use="stranger"}', 'trackers.gone={use="stranger", at="points", how="die"}']
    asked += ['trackers.left={use="stranger", at="points", how="leave"}', "trackers.csv={}"]
    said = Said()
    outcome = run(RunRequest(recipe, out=tmp_path / "two" / "tracked", overrides=tuple(asked)), said)
    tracked = outcome.folder
    assert [row["state"] for row in outcome.steps] == ["done"] * 5
    assert digests(tracked) == digests(plain) and len(digests(plain)) > 8
    assert fingerprints(tracked) == fingerprints(plain)
    full = "is off for the rest of this run: OSError: [Errno 28] No space left on device"
    wanted = [f"[trackers.{name}] {full}" for name in METHODS]
    wanted += ["[trackers.gone] is off for the rest of this run: its process ended before the run; see log.txt"]
    wanted += ["[trackers.left] is off for the rest of this run: ends the program (SystemExit: 3)"]
    assert said.of_trackers == sorted(wanted)
    assert "something a tracker prints" in (tracked / "trackers" / "points" / "log.txt").read_text()
    first, *others = calls(tracked, "good")
    assert first[:2] == ["start", "small"] and first[2] == (tracked / "trackers" / "id").read_text().strip()
    assert first[3]["prior"]["fit"]["steps"] == 3 and "not told" not in json.dumps(first)
    by_kind = {name: [call for call in others if call[0] == name] for name in METHODS}
    assert [step for call in by_kind["points"] for step in call[2]] and by_kind["points"][0][3] is True
    assert {score["metric"] for score in by_kind["scores"][0][1]} == {"ms-ssim"}
    assert others[-1] == ["end", "done", None]
    assert (tracked / "trackers" / "csv" / "scalars.csv").exists()


def test_a_tracker_added_to_a_finished_run_changes_no_step_and_is_told_what_was_written(recipe, tmp_path, states):
    folder = run(RunRequest(recipe, out=tmp_path / "runs" / "small")).folder
    before = fingerprints(folder), digests(folder)
    again = run(RunRequest(recipe, out=folder, overrides=("trackers.csv={}",)))
    assert set(states(again).values()) == {"skipped"}
    assert (fingerprints(folder), digests(folder)) == before
    rows = list(csv.DictReader((folder / "trackers" / "csv" / "scalars.csv").read_text().splitlines()))
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    wanted = [
        (e["stage"], e["kind"], str(e["step"]), name, repr(value))
        for e in events
        if e["kind"] in ("train", "validation", "epoch")
        for name, value in e["values"].items()
    ]
    told = [tuple(row[k] for k in ("stage", "kind", "step", "name", "value")) for row in rows if row["kind"] != "score"]
    assert told == wanted and len(wanted) >= 4
    scores = [row for row in rows if row["kind"] == "score"]
    values = json.loads((folder / "metrics.json").read_text())["results"]["ms-ssim"]["values"]
    assert [(row["source"], row["value"]) for row in scores] == [(v["source"], repr(v["value"])) for v in values]


def test_a_tracker_that_hangs_is_left_behind_with_one_line(recipe, tmp_path, stranger, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    said = Said()
    overrides = ('trackers.slow={use="stranger", at="start", how="hang"}', "prior.fit.steps=1")
    outcome = run(RunRequest(recipe, out=tmp_path / "small", overrides=overrides), said)
    assert [row["state"] for row in outcome.steps] == ["done"] * 5
    assert said.of_trackers == ["[trackers.slow] is off for the rest of this run: it did not end in time"]


def test_a_tracker_whose_folder_cannot_be_made_is_one_line(recipe, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "trackers").write_text("a file is in the way")
    said = Said()
    run(RunRequest(recipe, out=tmp_path / "small", overrides=("trackers.csv={}",), until_step="prepare"), said)
    assert len(said.of_trackers) == 1 and "[trackers.csv] is off" in said.of_trackers[0]


def test_how_the_run_ended_is_told(recipe, tmp_path, stranger, monkeypatch):
    asked = ('trackers.good={use="stranger"}',)

    def ended(out, work):
        monkeypatch.setattr(runner, "_do", work)
        with pytest.raises(BaseException) as error:
            run(RunRequest(recipe, out=out, overrides=asked))
        return error.type.__name__, calls(out, "good")[-1][1]

    def stopped(ctx, *_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        ctx.check_stop()

    def failed(*_, **__):
        raise ZeroDivisionError

    assert ended(tmp_path / "a", stopped) == ("Stopped", "stopped")
    assert ended(tmp_path / "b", failed) == ("ZeroDivisionError", "failed")


def test_a_run_that_is_refused_starts_no_tracker(recipe, tmp_path):
    asked = {"out": tmp_path / "small", "until_step": "prepare"}
    run(RunRequest(recipe, overrides=("trackers.first={use='csv'}",), **asked))
    with pytest.raises(UsageError, match="'prepare' was made with other settings"):
        run(RunRequest(recipe, overrides=("trackers.second={use='csv'}", "split.val=0.3"), **asked))
    assert sorted(p.name for p in (tmp_path / "small/trackers").iterdir() if p.is_dir()) == ["first"]


@pytest.mark.parametrize("leads", [True, False])
def test_of_several_processes_the_first_alone_tracks(recipe, tmp_path, monkeypatch, leads):
    started = []

    class Rank(Ranks):
        def told(self, thing=None):
            return thing

    Rank.leads = property(lambda self: leads)

    @contextmanager
    def joined(stop):
        yield Rank()

    monkeypatch.setattr(api, "joined", joined)
    monkeypatch.setattr(api, "follow", lambda ctx: None)
    monkeypatch.setattr(tracking, "_start", lambda ctx, table: started.append(table.name))
    run(RunRequest(recipe, out=tmp_path / "small", overrides=("trackers.csv={}",), until_step="prepare"))
    assert started == ["trackers.csv"] * leads


KILL = """
import os, signal, time
from gen_core.engine.fit import _Fit
from gen_core.run.tracking import beside as tracking
true = _Fit._one_step
def step(self, batch):
    if self.now.done == {at}:
        time.sleep(1.0)  # so that the tracker has seen points that come again
        os.kill(os.getpid(), signal.SIGKILL)
    true(self, batch)
_Fit._one_step = step
tracking.EVERY = 0.05
"""


def test_the_table_of_a_run_that_was_killed_twice_is_that_of_one_that_was_not(zygote, tmp_path, small_recipe):
    text = small_recipe.replace("steps = 3\n", "steps = 9\nlog_every = 1\nvalidate_every = 2\n")
    text = text.replace("checkpoint_every = 2", "checkpoint_every = 3")
    folders = {name: tmp_path / name for name in ("whole", "cut")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "small.toml").write_text(text + "[trackers.csv]\n")
    start = lambda name, **more: zygote.run("run", "small.toml", "--out", "run", folder=folders[name], **more)
    assert start("whole").code == 0
    seen = []
    for at in (4, 7):
        ended = start("cut", patch=KILL.format(at=at))
        assert ended.code == -signal.SIGKILL, ended.text
        table = folders["cut"] / "run" / "trackers" / "csv" / "scalars.csv"
        limit = time.monotonic() + 30
        while not (table.exists() and f"train,{at},loss" in table.read_text()) and time.monotonic() < limit:
            time.sleep(0.05)  # the killed run's tracker ends by itself
        seen.append(table.read_text())
    assert all(f"train,{at},loss" in text for at, text in zip((4, 7), seen))
    last = start("cut")
    assert last.code == 0 and "[trackers." not in last.text, last.text
    tables = [(folder / "run" / "trackers" / "csv" / "scalars.csv").read_bytes() for folder in folders.values()]
    assert tables[0] == tables[1] and tables[0].count(b"prior,train,") == 9 * 4
    assert digests(folders["cut"] / "run") == digests(folders["whole"] / "run")


def test_a_run_id_is_kept(tmp_path):
    first = tracking.run_id(tmp_path)
    assert len(first) == 16 and tracking.run_id(tmp_path) == first != tracking.run_id(tmp_path / "other")


def test_the_process_of_a_tracker_loads_no_torch(tmp_path):
    code = "import sys, gen_core.run.tracking.child, gen_trackers.csv_table; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
