"""Sweeps: what children share, failures, kill and resume, search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from gen_core.errors import RecipeError, Stopped, UsageError
from gen_core.run.folder import computing
from gen_core.run.studies.sweep import SweepRequest, plan_sweep, sweep

SWEEP = """
[sweep.grid]
"prior.base" = [8, 16]
[sweep.search]
"prior.fit.lr" = { low = 1e-4, high = 1e-2, log = true }
"""


def command(request):
    """The words of one child, as the command line gives them."""
    words = [sys.executable, "-m", "gen_cli", "run", str(request.recipe), "--out", str(request.out)]
    for override in request.overrides:
        words += ["--set", override]
    return words


class Lines:
    """A progress display that keeps what children say."""

    def __init__(self):
        self.lines: list[str] = []

    def say(self, message):
        self.lines.append(message)


@pytest.fixture
def recipe(recipe, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe.write_text(recipe.read_text() + SWEEP)
    return recipe


def done_by(folder, step):
    """The children that computed a step themselves."""
    records = {p.parents[2].name: json.loads(p.read_text()) for p in folder.glob(f"*/steps/{step}/done.json")}
    return sorted(name for name, record in records.items() if not record.get("reference"))


def test_a_grid_of_unquoted_keys_says_how_to_quote(recipe):
    recipe.write_text(recipe.read_text().replace('"prior.base" =', "prior.base ="))
    with pytest.raises(RecipeError, match='in quotes: "prior.base"'):
        plan_sweep(SweepRequest(recipe))


def test_every_mistake_of_every_child_is_told_before_anything_runs(recipe, tmp_path):
    request = SweepRequest(recipe, grid=("prior.base=8,9,15",), out=tmp_path / "runs")
    with pytest.raises(RecipeError) as told:
        sweep(request, command, Lines())
    assert len(told.value.problems) == 2 and "child 'base9'" in told.value.problems[0]
    assert not (tmp_path / "runs").exists()


def test_the_plan_tells_what_is_shared_and_writes_nothing(recipe, tmp_path):
    found = plan_sweep(SweepRequest(recipe, out=tmp_path / "runs"))
    first, second = found["children"]
    assert (first["name"], second["name"]) == ("base8", "base16")
    assert first["shared"] == {} and second["shared"] == {"prepare": "base8", "encode": "base8"}
    assert second["parameters"]["prior"] > first["parameters"]["prior"]
    assert not (tmp_path / "runs").exists()


def test_children_at_work_at_once_do_each_equal_step_once(recipe, tmp_path):
    folder, lines = tmp_path / "runs", Lines()
    outcome = sweep(SweepRequest(recipe, out=folder, max_parallel=2), command, lines)
    assert [row["state"] for row in outcome.children] == ["done", "done"] and not outcome.failed
    assert len(done_by(folder, "prepare")) == len(done_by(folder, "encode")) == 1
    assert done_by(folder, "fit.prior") == ["base16", "base8"]
    assert any(line.startswith("[base16] fit.prior: done") for line in lines.lines)
    locks = [(folder / name / "recipe.lock.toml").read_text() for name in ("base8", "base16")]
    assert 'name = "small-base8"' in locks[0] and "base = 16" in locks[1]


FAKE = """
import json, pathlib, sys
folder, lr = pathlib.Path(sys.argv[1]), float(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
folder.joinpath("recipe.lock.toml").write_text("gen = 1")
value = {"name": "fid", "value": (lr - 0.002) ** 2, "source": "synthetic", "better": "lower"}
folder.joinpath("metrics.json").write_text(json.dumps({"results": {"fid": {"values": [value], "protocol": {}}}}))
"""


def fake(request):
    """A child of no time: its score is a parabola of its learning rate."""
    rates = [o.partition("=")[2] for o in request.overrides if o.startswith("prior.fit.lr=")]
    return [sys.executable, "-c", FAKE, str(request.out), *(rates or ["0"])]


def test_a_failing_child_does_not_stop_the_others_and_is_done_again(recipe, tmp_path):
    def failing(request):
        fails = "import sys; print('a warning\\nno room on the disk', file=sys.stderr); sys.exit(5)"
        return [sys.executable, "-c", fails] if request.out.name == "base8" else fake(request)

    request = SweepRequest(recipe, out=tmp_path / "runs")
    outcome = sweep(request, failing, Lines())
    assert outcome.failed == ["base8"] and outcome.children[1]["state"] == "done"
    assert outcome.children[0]["why"].endswith("no room on the disk") and outcome.children[0]["code"] == 5
    assert sweep(request, fake, Lines()).failed == []


def test_a_sweep_that_is_killed_goes_on(recipe, tmp_path):
    folder = tmp_path / "runs"
    settings = ["--set", "prior.fit.steps=40", "--max-parallel", "2", "--out", str(folder)]
    words = [sys.executable, "-m", "gen_cli", "sweep", str(recipe), *settings]
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)):
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True
        )
        while "fit.prior: " not in (line := process.stdout.readline()) and line:
            pass
        # SIGTERM goes to the sweep alone, which passes it on; SIGKILL to all of them, as a power cut would
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code
    states = {row["state"] for row in json.loads((folder / "sweep.json").read_text())["children"]}
    assert states <= {"stopped", "done", "to do"}
    request = SweepRequest(recipe, overrides=("prior.fit.steps=40",), out=folder, max_parallel=2)
    outcome = sweep(request, command, Lines())
    assert {row["state"] for row in outcome.children} == {"done"}
    assert len(done_by(folder, "encode")) == 1


def test_a_child_stopped_by_somebody_else_stops_nobody_but_is_told(recipe, tmp_path):
    stopping = lambda request: [sys.executable, "-c", "raise SystemExit(75)"]
    with pytest.raises(Stopped, match="base8, base16 stopped; the same command goes on"):
        sweep(SweepRequest(recipe, out=tmp_path / "runs"), stopping, Lines())


def test_a_step_is_computed_by_one_process_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gen_core.run.folder import computing\n"
        "with computing(Path(sys.argv[1]), 'ab' * 32, None):\n print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    class Held(Exception):
        pass

    def waiting():
        raise Held

    try:
        assert child.stdout.readline() == "held\n"
        with computing(tmp_path, "cd" * 32, waiting):
            pass  # another step
        with pytest.raises(Held), computing(tmp_path, "ab" * 32, waiting):
            pass
    finally:
        child.kill()
        child.communicate()
    with computing(tmp_path, "ab" * 32, waiting):
        pass


def test_a_search_goes_on_where_it_was(recipe, tmp_path):
    pytest.importorskip("optuna")
    runs = {}
    for name, steps in (("whole", (7,)), ("parts", (2, 7))):
        for trials in steps:
            request = SweepRequest(recipe, out=tmp_path / name, trials=trials, aim="fid")
            runs[name] = sweep(request, fake, Lines()).children
    assert [(r["settings"], r["value"]) for r in runs["whole"]] == [(r["settings"], r["value"]) for r in runs["parts"]]
    assert [r["name"] for r in runs["whole"]][::3] == ["trial-000", "trial-003", "trial-006"]
    for row in runs["whole"]:
        assert row["value"] == pytest.approx((row["settings"]["prior.fit.lr"] - 0.002) ** 2)


def test_a_search_says_what_it_lacks(recipe, tmp_path):
    with pytest.raises(UsageError, match="--minimize SCORE"):
        sweep(SweepRequest(recipe, out=tmp_path / "r", trials=2), command, Lines())
    recipe.write_text(recipe.read_text().partition("[sweep.search]")[0])
    with pytest.raises(UsageError, match=r"needs \[sweep.search\]"):
        sweep(SweepRequest(recipe, out=tmp_path / "r", trials=2, aim="ms-ssim"), command, Lines())
