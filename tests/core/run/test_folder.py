"""The run folder: lock, finished steps, references, verification."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gen_core import atomic
from gen_core.errors import RunError
from gen_core.run.folder import RunFolder, find_equal, verify_step


def finished(root, run, step="fit.codec", print_="abc"):
    folder = RunFolder(root / run)
    atomic.write_text(folder.path / "steps" / step / "weights.safetensors", f"weights of {run}")
    folder.finish(step, {"fingerprint": print_})
    return folder


def test_a_second_process_is_refused_while_the_first_holds_the_folder(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gen_core.run.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another `gen` process is working in this folder"):
            with RunFolder(tmp_path / "run").locked():
                pass
    finally:
        child.kill()
        child.communicate()
    with RunFolder(tmp_path / "run").locked():  # the lock died with its process
        assert (tmp_path / "run").exists()


def test_locking_sweeps_what_a_killed_process_left_half_written(tmp_path):
    half = tmp_path / "run" / "steps" / ".metrics.partial123.json"
    atomic.write_text(half.with_name("metrics.json"), "{}")
    half.write_text("{")
    with RunFolder(tmp_path / "run").locked():
        assert not half.exists()
        assert half.with_name("metrics.json").exists()


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write here"):
        with RunFolder(tmp_path / "file" / "run").locked():
            pass


def test_an_equal_step_of_a_sibling_run_is_found_and_referred_to(tmp_path):
    finished(tmp_path, "first")
    second = RunFolder(tmp_path / "second")
    origin = find_equal(tmp_path, "fit.codec", "abc", second.path)
    assert origin == tmp_path / "first" / "steps" / "fit.codec"
    assert find_equal(tmp_path, "fit.codec", "other", second.path) is None
    second.refer("fit.codec", origin, {"fingerprint": "abc"})
    assert second.step("fit.codec") == origin.resolve()
    assert find_equal(tmp_path, "fit.codec", "abc", tmp_path / "first") is None  # references are not passed on


def test_a_reference_whose_target_is_gone_is_told(tmp_path):
    finished(tmp_path, "first")
    second = RunFolder(tmp_path / "second")
    second.refer("fit.codec", tmp_path / "first" / "steps" / "fit.codec", {"fingerprint": "abc"})
    (tmp_path / "first" / "steps" / "fit.codec" / "done.json").unlink()
    with pytest.raises(RunError, match="which is gone"):
        second.step("fit.codec")


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_verification_names_the_damaged_file(tmp_path, damage):
    folder = finished(tmp_path, "run").path / "steps" / "fit.codec"
    assert verify_step(folder) == []
    file = folder / "weights.safetensors"
    if damage == "missing":
        file.unlink()
    else:
        text = file.read_text()
        file.write_text(text[:-1] if damage == "truncated" else text[:-1] + "X")
    problems = verify_step(folder)
    assert len(problems) == 1 and "weights.safetensors" in problems[0]
