"""A run killed at any of its file operations goes on to the same bits; and what it leaves would bear a power cut.

Points are "before operation k" for every k, and "in the middle of operation k" for every write. After operation k
is before operation k + 1: between two of them a process only reads and computes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from durability import unpublished
from small_run import COMMAND, JUDGED, REPORTED, Uninterrupted, start, write_recipe

WRITES = ("write", "native write")
DEFAULT_POINTS = 4
PARTS = 20  # all points, so that several processes share them and a stop loses little
PYTHON = sys.executable


def points(trace):
    """All kill points: (operation, "before" or "torn")."""
    before = [(op["n"], "before") for op in trace]
    return before + [(op["n"], "torn") for op in trace if op["kind"] in WRITES]


def spread(trace, n):
    """n points over the whole run in which each kind of operation comes in turn."""
    kinds = sorted({op["kind"] for op in trace})
    left = {kind: [op["n"] for op in trace if op["kind"] == kind] for kind in kinds}
    chosen = []
    for i in range(n):
        kind = kinds[i % len(kinds)]
        wanted = len(trace) * (i + 0.5) / n
        nearest = min(left[kind], key=lambda k: abs(k - wanted))
        chosen.append((nearest, "torn" if kind in WRITES else "before"))
    return chosen


def killed_and_resumed(zygote, folder, point):
    """Kill a run at a point, go on; returns how the second command ended."""
    write_recipe(folder)
    ended = start(zygote, folder, kill=point)
    assert ended.code == -9, f"{point}: {ended.text}"
    return start(zygote, folder)


def test_the_trace_sees_every_kind_of_operation(whole):
    kinds = Counter(op["kind"] for op in whole.trace)
    assert kinds.keys() == {
        "open", "write", "native write", "fsync", "rename", "unlink", "mkdir", "rmdir", "allocate"
    }  # fmt: skip
    assert all(n > 0 for n in kinds.values()) and kinds["rename"] > 50


@pytest.mark.parametrize("i", range(DEFAULT_POINTS))
def test_killed_at_a_file_operation_it_ends_with_the_same_bits(zygote, whole, tmp_path, i):
    point = spread(whole.trace, DEFAULT_POINTS)[i]
    ended = killed_and_resumed(zygote, tmp_path / "work", point)
    assert ended.code == 0, ended.text
    assert whole.differences(tmp_path / "work") == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_file_operation_it_ends_with_the_same_bits(zygote, whole, tmp_path, part):
    bad, mine = [], points(whole.trace)[part::PARTS]
    for point in mine:
        ended = killed_and_resumed(zygote, tmp_path / "work", point)
        wrong = whole.differences(tmp_path / "work") if ended.code == 0 else [ended.last]
        bad += [f"{whole.trace[point[0]]}, {point[1]}: {wrong}"] if wrong else []
        shutil.rmtree(tmp_path / "work")
    print(f"{len(mine)} kill points of {len(points(whole.trace))}, {len(bad)} bad")
    assert not bad, f"{len(bad)} of {len(mine)}: " + "\n".join(bad)


def test_every_file_is_flushed_renamed_into_place_and_its_folder_flushed(whole):
    assert unpublished(whole.trace, whole.folder) == []


@pytest.mark.slow
def test_the_report_is_flushed_and_renamed_into_place_too(zygote, tmp_path):
    run = Uninterrupted(zygote, tmp_path, REPORTED)
    assert (run.folder / "run" / "report.html").exists()
    assert unpublished(run.trace, run.folder) == []


@pytest.mark.parametrize(
    "lost, said",
    [
        (lambda op: op["kind"] == "fsync" and op["path"].endswith(".safetensors"), "weights.safetensors: renamed with"),
        (lambda op: op["kind"] == "rename" and "metrics" in op["path"], "metrics.json: written in place"),
        (lambda op: op["kind"] == "fsync" and op["path"].endswith("/run"), "metrics.json: the folder was not flushed"),
        (lambda op: op["kind"] == "fsync" and op["path"].endswith("/steps"), "steps/encode: steps/ was not flushed"),
    ],
)  # fmt: skip
def test_the_check_names_what_was_not_flushed_or_renamed(whole, lost, said):
    trace = [op if not lost(op) else {**op, "kind": "nothing"} for op in whole.trace]
    assert any(said in line for line in unpublished(trace, whole.folder))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_system_calls_change_no_file_that_the_trace_does_not_know(whole, tmp_path):
    """The independent witness: every path a run opens for writing, renames or removes, as the kernel saw it."""
    write_recipe(tmp_path / "work")
    program = f"import sys; sys.argv[1:] = {list(COMMAND)!r}\n{JUDGED}\nfrom gen_cli.main import main; main()"
    calls = "openat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,truncate"
    witness = tmp_path / "strace"
    traced = ["strace", "-f", "-qq", "-y", "-s", "300", "-e", f"trace={calls}", "-o", witness]
    subprocess.run([*traced, PYTHON, "-c", program], cwd=tmp_path / "work", check=True, timeout=600)
    seen = changed_names(witness.read_text(), str(tmp_path / "work"))
    known = {name_of(op[key], str(whole.folder)) for op in whole.trace for key in ("path", "target") if key in op}
    native = {os.path.dirname(op["path"]) for op in whole.trace if op["kind"] == "native write"}
    known |= {name_of(f"{folder}/.tmp000000", str(whole.folder)) for folder in native}  # its own temporary files
    assert len(seen) > 100
    assert seen <= known, sorted(seen - known)


def name_of(path, root):
    """A path below `root` without the parts that differ from process to process."""
    import re

    name = re.sub(r"/\.tmp\w{6}$", "/.tmp", path.removeprefix(root))
    return re.sub(r"partial[^./]*", "partial", name)


def changed_names(text, root):
    """The names that successful changing calls of an strace log bear."""
    import re

    found = set()
    for line in text.splitlines():
        if " = -1 " in line or ("openat" in line and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line)):
            continue
        folders = re.findall(r"(?:AT_FDCWD|\d+)<([^>]*)>", line)
        for k, quoted in enumerate(re.findall(r'"([^"]*)"', line)):
            folder = folders[min(k, len(folders) - 1)] if folders else root
            path = quoted if quoted.startswith("/") else f"{folder}/{quoted}"
            if path.startswith(f"{root}/"):
                found.add(name_of(path, root))
    return found
