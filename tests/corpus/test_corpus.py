"""Malformed files through the real commands: the exit code, one line that names the file, little time and memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import corpus_cases  # noqa: E402

SECONDS, MEGABYTES = 10, 400  # a file
CASES = {case.name: case for case in corpus_cases.cases()}
SPREAD = 3  # by default every third case, with the slow tests all of them
PARAMS = [pytest.param(name, marks=[pytest.mark.slow] * bool(n % SPREAD)) for n, name in enumerate(CASES)]
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as on Linux")


@pytest.fixture(scope="module")
def walked(tmp_path_factory, request):
    """name -> what became of it; a case that ended the process is called so, and the next ones walked without it."""
    folder = tmp_path_factory.mktemp("corpus")
    told = []
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    for case in (case for case in CASES.values() if case.name in asked):
        corpus_cases.write(case, folder)
        told.append({"name": case.name, "words": case.words})
    (folder / "cases.json").write_text(json.dumps(told))
    before = sorted(p.name for p in folder.iterdir())
    found, at = {}, 0
    while at < len(told):
        words = [sys.executable, str(HERE / "walk.py"), str(folder), str(at)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=folder, timeout=900)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        found |= {row["name"]: row for row in rows if "name" in row}
        last = max((row["number"] for row in rows if "number" in row), default=at)
        if told[last]["name"] not in found:
            found[told[last]["name"]] = {"code": done.returncode, "said": f"the process ended: {done.stderr[-500:]}"}
        at = last + 1
    kept = [p.name for p in folder.glob("runs/*")]
    shutil.rmtree(folder / "runs", ignore_errors=True)
    assert kept in ([], [".cache"])  # what `data inspect RECIPE` has unpacked is there for the run
    assert sorted(p.name for p in folder.iterdir()) == before, "a case wrote beside its folder"
    return found


@pytest.mark.parametrize("name", PARAMS)
def test_malformed_files_end_in_one_line(name, walked):
    case, row = CASES[name], walked[name]
    said = row["said"]
    assert row["code"] == case.code, f"{name}: ended with {row['code']}: {said[-600:]}"
    assert "Traceback" not in said and not said.startswith("unexpected"), said
    if case.code:
        lines = said.rstrip("\n").split("\n")
        assert len(lines) == case.lines, f"{name}: {len(lines)} lines: {said[:600]}"
        assert all(word in said for word in case.says), f"{name}: lacks one of {case.says}: {said[:600]}"
        assert max(map(len, lines)) < 2000 and said.replace("\n", "").isprintable(), f"{name}: {said[:600]!r}"
    # seconds of the processor: on a busy machine the clock says more
    assert row["seconds"] < SECONDS and row["megabytes"] < MEGABYTES, f"{name}: {row}"


def test_the_same_files_every_time():
    again = {case.name: case for case in corpus_cases.cases()}
    assert again == CASES and len(CASES) > 700
