"""The run folder: lock, finished steps, references, verification."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gen_core import atomic
from gen_core.errors import RunError
from gen_core.run.folder import RunFolder, check_lock, find_equal, read_sealed, verify_step, write_lock


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


def test_a_record_that_was_changed_counts_as_absent(tmp_path):
    folder = finished(tmp_path, "run")
    done = folder.path / "steps" / "fit.codec" / "done.json"
    assert folder.done("fit.codec")["fingerprint"] == "abc"
    done.write_text(done.read_text().replace('"abc"', '"abd"'))
    assert read_sealed(done) is None and folder.done("fit.codec") is None
    done.write_text('{"fingerprint": "abc"}')  # of an earlier version, without its hash
    assert folder.done("fit.codec") == {"fingerprint": "abc"}


def test_a_damaged_step_is_not_taken_by_others(tmp_path):
    folder = finished(tmp_path, "first").path / "steps" / "fit.codec"
    (folder / "weights.safetensors").write_text("weights of nobody")
    assert find_equal(tmp_path, "fit.codec", "abc", tmp_path / "second") is None


def test_of_a_large_step_the_small_files_are_read_and_the_large_ones_measured(tmp_path):
    folder = finished(tmp_path, "run").path / "steps" / "fit.codec"
    file = folder / "weights.safetensors"
    file.write_text(file.read_text()[:-1] + "X")
    assert verify_step(folder, most=5) == [] and len(verify_step(folder, most=1000)) == 1


def test_files_of_a_step_that_lie_elsewhere_are_verified_too(tmp_path):
    folder = RunFolder(tmp_path / "run")
    atomic.write_text(folder.path / "metrics.json", "{}")
    (folder.path / "steps" / "evaluate").mkdir(parents=True)
    folder.finish("evaluate", {"fingerprint": "abc"}, ["metrics.json"])
    assert folder.problems("evaluate") == []
    (folder.path / "metrics.json").unlink()
    assert folder.problems("evaluate") == [f"{folder.path / 'metrics.json'}: missing"]


@pytest.mark.parametrize("change", [("lr = 0.1", "lr = 0.3"), ("# what", "# whet"), ("[codec]", ""), ("SHA", "SHB")])
def test_a_locked_recipe_that_was_changed_is_refused(tmp_path, change):
    path = tmp_path / "recipe.lock.toml"
    write_lock(path, "# what it is\n\ngen = 1\nname = 'x'\n[codec]\nlr = 0.1\n")
    check_lock(path)
    path.write_text(path.read_text().replace(*change))
    if change[0] == "SHA":
        check_lock(path)  # without a seal a file is taken as it is: the content has not changed
        return
    with pytest.raises(RunError, match="recipe.lock.toml: damaged or edited; `gen run RECIPE"):
        check_lock(path)
