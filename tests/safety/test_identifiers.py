"""Nothing that a header tells of a patient gets out: into no file, log, page, name of a file, or line on the screen."""

from __future__ import annotations

import base64
import gzip
import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gen_cli.main import app

pytest.importorskip("pydicom")
_spec = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(planted)

RECIPE = """gen = 1
name = "planted"
[volume]
size = [4, 8, 8]
[split]
val = 0.34
[dataset]
use = "dicom"
root = "{root}"
[codec]
use = "identity"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
heads = 1
head_dim = 8
steps = 10
[prior.fit]
steps = 2
batch = 2
[sampler]
use = "ddim"
[sample]
n = 2
batch = 2
steps = 2
format = "{format}"
[metrics.psnr]
[metrics.memorization]
[features]
use = "random-conv64"
[report]
use = "html"
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three patients full of marks, and the marks."""
    folder, marks = tmp_path_factory.mktemp("planted"), set()
    for patient in range(1, 4):
        marks |= set(planted.series(folder / "src" / f"scan-{patient}", patient))
    assert len(marks) > 1000
    return folder, marks


def gen(*words):
    out = CliRunner().invoke(app, [str(w) for w in words], prog_name="gen")
    return out.exit_code, (out.stdout + out.stderr).encode()


def test_the_search_finds_marks_wherever_they_are_packed(source, tmp_path):
    folder, marks = source
    assert planted.leaks(folder / "src", marks)  # the files themselves are full of them
    page = b'<img src="data:image/png;base64,' + base64.b64encode(b"x" * 40 + b"ZQ010001K" + b"y" * 40) + b'">'
    for name, data in (("a.gz", gzip.compress(b"..zq010001k..")), ("b.html", page), ("zq010001k.txt", b"")):
        (tmp_path / name).write_bytes(data)
    assert [line.partition(":")[0] for line in planted.leaks(tmp_path, {"zq010001k"})] == [
        "a.gz",
        "b.html",
        "zq010001k.txt",
    ]


@pytest.mark.parametrize("to", ["nifti", "dicom"])
def test_a_conversion_tells_nothing(source, tmp_path, to):
    folder, marks = source
    code, said = gen("data", "convert", folder / "src", tmp_path / "out", "--to", to, "--no-table", "--json")
    assert code == 0, said
    assert len(list((tmp_path / "out").rglob("*"))) > 5
    assert planted.leaks(tmp_path, marks) == [] and planted.marks_in(said, marks) == set()


def test_looking_at_a_series_tells_nothing(source):
    folder, marks = source
    for what in (folder / "src", folder / "src" / "scan-1"):
        code, said = gen("data", "inspect", what, "--json")
        assert code == 0, said
        assert b"subject-0001" in said and planted.marks_in(said, marks) == set()


def test_a_whole_run_tells_nothing(source, tmp_path):
    folder, marks = source
    recipe = tmp_path / "planted.toml"
    recipe.write_text(RECIPE.format(root=folder / "src", format="nifti"))
    code, said = gen("run", recipe, "--out", tmp_path / "runs" / "a")
    assert code == 0, said
    run = tmp_path / "runs" / "a"
    assert (run / "report.html").exists() and list((run / "samples").rglob("*.nii.gz"))
    code, more = gen("sample", "--run", run, "--out", tmp_path / "more", "--format", "dicom")
    assert code == 0, more
    assert planted.leaks(tmp_path, marks) == [] and planted.marks_in(said + more, marks) == set()
    assert "subject-0003" in (run / "steps" / "prepare" / "prepared.json").read_text()


def test_a_run_that_fails_names_the_file_and_no_patient(source, tmp_path):
    import shutil

    folder, marks = source
    shutil.copytree(folder / "src", tmp_path / "src")
    broken = tmp_path / "src" / "scan-2" / "003.dcm"
    broken.write_bytes(broken.read_bytes()[:-50])
    recipe = tmp_path / "planted.toml"
    recipe.write_text(RECIPE.format(root=tmp_path / "src", format="nifti"))
    code, said = gen("run", recipe, "--out", tmp_path / "out" / "run", "--until", "prepare")
    assert code == 4 and b"003.dcm" in said and b"Traceback" not in said
    assert planted.marks_in(said, marks) == set() and planted.leaks(tmp_path / "out", marks) == []
    skip = ("--set", "dataset.unreadable=skip")
    code, said = gen("run", recipe, "--out", tmp_path / "out" / "run2", "--until", "prepare", *skip)
    assert code == 0, said
    assert planted.marks_in(said, marks) == set() and planted.leaks(tmp_path / "out", marks) == []


def test_ids_are_kept_where_a_recipe_asks_for_it(source, tmp_path):
    folder, marks = source
    recipe = tmp_path / "planted.toml"
    recipe.write_text(RECIPE.format(root=folder / "src", format="nifti"))
    words = ("--until", "prepare", "--set", "dataset.keep_ids=true")
    code, said = gen("run", recipe, "--out", tmp_path / "run", *words)
    assert code == 0, said
    assert planted.leaks(tmp_path / "run", marks)
