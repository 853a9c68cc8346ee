"""Damaged files, full disks, forbidden folders: made again or told in one line, never a silent wrong result."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from damages import DAMAGES
from file_operations import CHANGES_ON_FULL
from small_run import COMMAND, JUDGED, start, write_recipe

REFUSED = (2, 3, 4, 5)
STARTED = "started.json"


@pytest.fixture(scope="module")
def half_done(zygote, whole, tmp_path_factory):
    """Of a stage: a working folder whose run was killed with two checkpoints of that fit."""

    @functools.cache
    def killed(stage):
        saved = [op["n"] for op in whole.trace if f"{stage}/checkpoints/step-" in op.get("target", "")]
        folder = tmp_path_factory.mktemp("half") / "work"
        write_recipe(folder)
        assert start(zygote, folder, kill=(saved[1] + 2, "before")).code == -9
        return folder

    return killed


@pytest.fixture(scope="module")
def other(zygote, tmp_path_factory):
    """A finished run of another seed."""
    folder = tmp_path_factory.mktemp("other") / "work"
    write_recipe(folder)
    (folder / "small.toml").write_text(
        (folder / "small.toml").read_text().replace('name = "small"', 'name = "small"\nseed = 5')
    )
    ended = start(zygote, folder)
    assert ended.code == 0, ended.text
    return folder


def checkpoints(folder, stage):
    return sorted((folder / "run" / "steps" / stage / "checkpoints").glob("step-*"))


def damage_newest(half_done, other, stage, name, kind, folder):
    """Copy the half-done run and damage a file of its newest checkpoint; returns the file."""
    shutil.copytree(half_done(stage), folder)
    older, newest = checkpoints(folder, stage)
    DAMAGES[kind](newest / name, other and checkpoints(other, stage)[-1] / name)
    return newest / name


def assert_falls_back(zygote, whole, folder, file):
    ended = start(zygote, folder)
    assert ended.code == 0, ended.text
    told = next(line for line in ended.text.splitlines() if "damaged checkpoint passed over" in line)
    assert f"{file.parent.name}/" in told and told.endswith("going on from step 2")
    assert whole.differences(folder) == []


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(zygote, whole, half_done, tmp_path):
    file = damage_newest(half_done, None, "fit.codec", "weights.safetensors", "one bit flipped", tmp_path / "work")
    assert_falls_back(zygote, whole, tmp_path / "work", file)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fit.codec", "fit.prior"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_to_each_checkpoint_file_falls_back(zygote, whole, half_done, other, tmp_path, stage, kind):
    for path in sorted(checkpoints(half_done(stage), stage)[-1].iterdir()):
        file = damage_newest(half_done, other, stage, path.name, kind, tmp_path / "work")
        assert_falls_back(zygote, whole, tmp_path / "work", file)
        shutil.rmtree(tmp_path / "work")


# finished runs

FILES = [
    "run/steps/prepare/prepared.json",
    "run/steps/prepare/done.json",
    "run/steps/fit.codec/weights.safetensors",
    "run/steps/fit.codec/weights.json",
    "run/steps/fit.codec/started.json",
    "run/steps/encode/latents-train.safetensors",
    "run/steps/encode/weights.safetensors",
    "run/steps/encode/calibration.json",
    "run/steps/fit.prior/done.json",
    "run/steps/sample/chunks/chunk-00001.safetensors",
    "run/steps/sample/done.json",
    "run/steps/reject/rejected.json",
    "run/steps/evaluate/metrics.json",
    "run/steps/evaluate/done.json",
    "run/samples/sample-000002.npy",
    "run/samples/sample-000002.json",
    "run/samples/manifest.json",
    "run/metrics.json",
]


def made_again_or_told(zygote, whole, folder, file, *more):
    """Run the command again: the end is equal, or one line names the file."""
    ended = start(zygote, folder) if not more else zygote.run(*more, folder=folder, patch=JUDGED)
    if ended.code == 0:
        return "" if whole.differences(folder) == [] else f"differs: {whole.differences(folder)}"
    changed = file.endswith(STARTED) and f"step '{file.split('/')[2]}' was made with other settings" in ended.text
    named = changed or os.path.basename(file) in ended.last
    named = named and "unexpected" not in ended.last and "Traceback" not in ended.text
    return "" if ended.code in REFUSED and named else f"exit {ended.code}: {ended.last}"


@pytest.mark.parametrize(
    "file, kind",
    [
        ("run/steps/encode/latents-train.safetensors", "one bit flipped"),
        ("run/steps/sample/chunks/chunk-00001.safetensors", "a block of zeros"),
        ("run/samples/sample-000002.npy", "cut to a half"),
        ("run/steps/fit.codec/started.json", "one bit flipped"),
        ("run/metrics.json", "empty"),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_made_again_or_told(zygote, whole, tmp_path, file, kind):
    shutil.copytree(whole.folder, tmp_path / "work")
    DAMAGES[kind](tmp_path / "work" / file, None)
    assert made_again_or_told(zygote, whole, tmp_path / "work", file) == ""


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_damage_to_every_file_of_a_finished_run_is_made_again_or_told(zygote, whole, other, tmp_path, file):
    wrong = []
    for kind, damage in DAMAGES.items():
        shutil.copytree(whole.folder, tmp_path / "work")
        damage(tmp_path / "work" / file, other / file)
        said = made_again_or_told(zygote, whole, tmp_path / "work", file)
        wrong += [f"{kind}: {said}"] if said else []
        shutil.rmtree(tmp_path / "work")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["volumes.npy", "masks.npy", "index.json", "features"])
def test_a_damaged_cache_is_made_again(zygote, whole, other, tmp_path, part):
    found = lambda folder: next(p for p in sorted((folder / ".cache").rglob("*")) if p.is_file() and part in str(p))
    for kind, damage in DAMAGES.items():
        shutil.copytree(whole.folder, tmp_path / "work")
        damage(found(tmp_path / "work"), found(other))
        said = made_again_or_told(zygote, whole, tmp_path / "work", part, *COMMAND, "--from", "encode")
        assert not said, f"{kind}: {said}"
        shutil.rmtree(tmp_path / "work")


@pytest.mark.slow
def test_a_damaged_locked_recipe_is_told_and_written_again(zygote, whole, other, tmp_path):
    for kind, damage in DAMAGES.items():
        if kind == "of another run":
            continue  # a whole locked recipe is the truth about its run: the steps' own records refuse it
        shutil.copytree(whole.folder, tmp_path / "work")
        damage(tmp_path / "work/run/recipe.lock.toml", other / "run/recipe.lock.toml")
        ended = zygote.run("sample", "--run", "run", "-n", "2", folder=tmp_path / "work")
        assert ended.code in REFUSED and ("recipe.lock.toml" in ended.last), f"{kind}: {ended.text}"
        assert start(zygote, tmp_path / "work").code == 0 and whole.differences(tmp_path / "work") == []
        shutil.rmtree(tmp_path / "work")


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind != "of another run"])
def test_a_damaged_diary_loses_lines_and_never_tells_a_wrong_one(whole, tmp_path, kind):
    from gen_core.engine.events import read_events

    true = read_events(whole.folder / "run/events.jsonl")
    shutil.copyfile(whole.folder / "run/events.jsonl", tmp_path / "events.jsonl")
    DAMAGES[kind](tmp_path / "events.jsonl", None)
    found = read_events(tmp_path / "events.jsonl")
    assert len(found) <= len(true) and all(line in true for line in found)


# full disk, quota, forbidden


def failing_points(trace, n):
    found = [op["n"] for op in trace if op["kind"] in CHANGES_ON_FULL]
    return [found[int(len(found) * (i + 0.5) / n)] for i in range(n)]


def refused_and_resumed(zygote, whole, folder, point, number):
    """From operation `point` on every change fails; afterwards there is room again. Returns what was wrong."""
    write_recipe(folder)
    ended = start(zygote, folder, fail=(point, number))
    said = [] if ended.code in REFUSED else [f"exit {ended.code}"]
    said += [f"says: {ended.last}"] if "unexpected" in ended.last or "Traceback" in ended.text else []
    said += [f"no reason: {ended.last}"] if not any(word in ended.last for word in REASONS[number]) else []
    ended = start(zygote, folder)
    said += [f"afterwards {ended.code}: {ended.last}"] if ended.code else []
    return said + (whole.differences(folder) if not said else [])


REASONS = {
    errno.ENOSPC: ("disk is full", "No space left"),
    errno.EDQUOT: ("quota",),
    errno.EROFS: ("cannot write", "Read-only", "cannot be made", "cannot be written"),
}


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_afterwards(zygote, whole, tmp_path):
    point = failing_points(whole.trace, 3)[1]
    assert refused_and_resumed(zygote, whole, tmp_path / "work", point, errno.ENOSPC) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", REASONS, ids=["full", "quota", "read-only"])
def test_writing_that_fails_anywhere_is_one_line_and_the_run_goes_on_afterwards(zygote, whole, tmp_path, number):
    bad = []
    for point in failing_points(whole.trace, 24):
        said = refused_and_resumed(zygote, whole, tmp_path / "work", point, number)
        bad += [f"{whole.trace[point]}: {said}"] if said else []
        shutil.rmtree(tmp_path / "work")
    assert not bad, "\n".join(bad)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_a_real_disk_that_is_full_is_one_line_and_the_run_goes_on_with_more_room(zygote, whole, tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        write_recipe(disk / "work")
        ended = start(zygote, disk / "work")
        assert ended.code == 5 and any(word in ended.last for word in REASONS[errno.ENOSPC]), ended.text
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert start(zygote, disk / "work").code == 0
        assert whole.differences(disk / "work") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk read-only")
def test_a_disk_mounted_read_only_is_one_line(zygote, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        write_recipe(disk / "work")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = start(zygote, disk / "work")
        assert ended.code == 5 and "cannot write here (Read-only file system)" in ended.last, ended.text
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert start(zygote, disk / "work").code == 0 and whole.differences(disk / "work") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("most", [4000, 40_000])
def test_files_that_may_not_grow_are_one_line(zygote, whole, tmp_path, most):
    write_recipe(tmp_path / "work")
    ended = start(zygote, tmp_path / "work", limits=[("RLIMIT_FSIZE", most)])
    assert ended.code == 5 and ("larger than" in ended.last or "too large" in ended.last), ended.text
    assert start(zygote, tmp_path / "work").code == 0 and whole.differences(tmp_path / "work") == []


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_is_unharmed(zygote, tmp_path):
    write_recipe(tmp_path / "work")
    (tmp_path / "work/run").mkdir()
    with (tmp_path / "work/run/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = start(zygote, tmp_path / "work")
        assert ended.code == 5 and ended.text.strip() == "run: another `gen` process is working in this folder"
    assert sorted(p.name for p in (tmp_path / "work/run").iterdir()) == [".lock"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_used_is_one_line_naming_it(zygote, whole, tmp_path):
    write_recipe(tmp_path / "work")
    (tmp_path / "work/.cache").write_text("a file, no folder")
    ended = start(zygote, tmp_path / "work")
    assert ended.code in REFUSED and ".cache" in ended.last and "unexpected" not in ended.last, ended.text
    (tmp_path / "work/.cache").unlink()
    assert start(zygote, tmp_path / "work").code == 0 and whole.differences(tmp_path / "work") == []


@pytest.mark.slow
def test_a_clock_that_goes_backwards_changes_nothing(zygote, whole, tmp_path):
    backwards = "import time\nnow = [2e9]\ndef earlier():\n    now[0] -= 3600\n    return now[0]\ntime.time = earlier\n"

    write_recipe(tmp_path / "work")
    stop = next(op["n"] for op in whole.trace if "fit.prior/checkpoints" in op["path"]) + 40
    assert start(zygote, tmp_path / "work", patch=JUDGED + backwards, kill=(stop, "before")).code == -9
    assert start(zygote, tmp_path / "work", patch=JUDGED + backwards).code == 0
    assert whole.differences(tmp_path / "work") == []


@pytest.mark.slow
def test_a_machine_without_a_folder_for_temporary_files_is_one_line(zygote, whole, tmp_path):

    write_recipe(tmp_path / "work")
    none = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nowhere']\ntempfile.tempdir = None\n"
    ended = start(zygote, tmp_path / "work", patch=JUDGED + none)
    assert ended.code == 5 and "no folder for temporary files" in ended.last and "set TMPDIR" in ended.last, ended.text
    assert start(zygote, tmp_path / "work").code == 0
    assert whole.differences(tmp_path / "work") == []


READER_DIES = """
from gen_hyperspectral.phantom.split import PhantomSplit as Split
true = Split.view
def view(self, i, draw):
    if draw:
        raise {error}
    return true(self, i, draw)
Split.view = view
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", ["OSError(5, 'Input/output error')", "SystemExit(1)", "ValueError('torn')"])
def test_a_dead_loader_worker_is_one_line_and_the_run_goes_on_afterwards(zygote, whole, tmp_path, error):

    write_recipe(tmp_path / "work")
    command = ("run", "small.toml", "--out", "run", "--set", "codec.fit.workers=2")
    ended = zygote.run(*command, folder=tmp_path / "work", patch=JUDGED + READER_DIES.format(error=error))
    assert ended.code == 5 and "a worker" in ended.last and "reading volumes" in ended.last, ended.text
    assert zygote.run(*command, folder=tmp_path / "work", patch=JUDGED).code == 0
    names = [n for n in whole.differences(tmp_path / "work") if "lock" not in n and "started" not in n]
    assert names == []


HELPED = """
import sys, time, numpy as np
from pathlib import Path
from gen_core.rendered_cache import Cache
def render(i):
    print(i, flush=True)
    time.sleep(60)
    return np.zeros((1, 8, 512, 512), np.float32), {}
Cache(Path(sys.argv[1]) / "c", (1, 8, 512, 512), (), 4, render, workers=2).fill()
"""


def test_no_helper_outlives_its_killed_parent_by_ten_seconds(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", HELPED, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    begun = {parent.stdout.readline(), parent.stdout.readline()}
    assert begun == {"0\n", "1\n"}, "both processes render"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(parent.pid, 0)  # the group lives as long as one of its processes
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        os.killpg(parent.pid, signal.SIGKILL)
        raise AssertionError("a helper is still there")
    parent.stdout.close()
