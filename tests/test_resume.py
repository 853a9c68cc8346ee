"""Kill a run at random moments, start the same command again: the end is equal bit for bit."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ("*.safetensors", "metrics.json", "manifest.json", "prepared.json", "*.npy")


def start(out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "gen_cli.main", "run", str(ROOT / "recipes" / "tiny.toml"), "--out", str(out)],
        cwd=out.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(out: Path) -> tuple[int, str]:
    child = start(out)
    text, _ = child.communicate(timeout=300)
    return child.returncode, text


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of everything that must be equal: weights, latents, samples, scores (checkpoints are on the way)."""
    found = {}
    for pattern in COMPARED:
        for path in run.rglob(pattern):
            if "checkpoints" not in path.parts:
                found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder and how long it took."""
    out = tmp_path_factory.mktemp("whole") / "tiny"
    begin = time.monotonic()
    code, text = finish(out)
    assert code == 0, text
    return out, time.monotonic() - begin


def kill_and_finish(out: Path, moments: random.Random, kills: int, longest: float) -> int:
    """Kill the run `kills` times, each after a random time, then let it end. Returns how many kills struck."""
    struck = 0
    for _ in range(kills):
        child = start(out)
        time.sleep(moments.uniform(1.0, longest))
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            struck += 1
        child.communicate()
        if (out / "report.html").exists():
            break
    code, text = finish(out)
    assert code == 0, text
    return struck


def assert_equal(run: Path, whole_run: Path) -> None:
    ours, theirs = digests(run), digests(whole_run)
    assert ours.keys() == theirs.keys()
    different = [name for name in theirs if ours[name] != theirs[name]]
    assert not different
    assert not [p for p in run.rglob("*.partial*")], "temporary files stayed"


def test_a_run_killed_three_times_ends_with_the_same_bits(whole, tmp_path):
    run, seconds = whole
    out = tmp_path / "tiny"
    assert kill_and_finish(out, random.Random(0), 3, 0.6 * seconds) >= 2
    assert_equal(out, run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_runs_killed_at_random_moments_end_with_the_same_bits(whole, tmp_path, seed):
    run, seconds = whole
    out = tmp_path / "tiny"
    assert kill_and_finish(out, random.Random(100 + seed), 5, 0.5 * seconds) >= 2
    assert_equal(out, run)


def test_sigterm_leaves_a_checkpoint_and_exit_code_75(whole, tmp_path):
    run, _ = whole
    out = tmp_path / "tiny"
    child = start(out)
    checkpoints = out / "steps" / "fit.codec" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    begin = time.monotonic()
    child.send_signal(signal.SIGTERM)
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 75, text
    assert time.monotonic() - begin < 10
    assert list(checkpoints.glob("step-*")), "no checkpoint was left"
    code, text = finish(out)
    assert code == 0, text
    assert_equal(out, run)


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(whole, tmp_path):
    run, _ = whole
    out = tmp_path / "tiny"
    child = start(out)
    checkpoints = out / "steps" / "fit.prior" / "checkpoints"
    deadline = time.monotonic() + 120
    while len(list(checkpoints.glob("step-*"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    newest = sorted(checkpoints.glob("step-*"))[-1]
    weights = max(newest.glob("*.safetensors"), key=lambda p: p.stat().st_size)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    (out / "steps" / "fit.prior" / "done.json").unlink(missing_ok=True)
    code, text = finish(out)
    assert code == 0, text
    assert str(newest.name) in text, "the damaged checkpoint was not named"
    assert_equal(out, run)


def test_a_finished_run_is_left_alone(whole):
    run, _ = whole
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    code, text = finish(run)
    assert code == 0, text
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before
