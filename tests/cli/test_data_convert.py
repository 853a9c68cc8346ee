"""`gen data convert`: what it prints, where the table of pseudonyms goes, and its exit codes."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
pytest.importorskip("pydicom")


def test_it_prints_who_has_what_and_what_was_left_out(gen, tmp_path):
    result = gen("data", "convert", DATA / "dcmqi_seg", tmp_path / "out", "--require", "image,segmentation")
    assert result.exit_code == 0, result.stderr
    head, row, *_ = result.stdout.splitlines()
    assert head.split() == ["patient", "image", "structures", "segmentation", "complete", "missing"]
    assert row.split()[1:] == ["1", "0", "1", "yes"] and "not DICOM" in result.stdout and "\n1 image\n" in result.stdout
    assert (tmp_path / "out.pseudonyms.json").exists() and (tmp_path / "out/left_out.csv").exists()
    again = gen("data", "convert", DATA / "dcmqi_seg", tmp_path / "out", "--require", "image,segmentation", "--json")
    found = json.loads(again.stdout)
    assert [w["kept"] for w in found["written"]] == [True] and found["patients"][0]["complete"]


def test_nothing_usable_is_exit_code_4_with_the_tables(gen, tmp_path):
    result = gen("data", "convert", DATA / "torchio_dcm", tmp_path / "out", "--require", "structures")
    assert result.exit_code == 4 and "nothing usable; 3 left out" in result.stderr
    assert "required and not there: structures" in result.stdout and result.stderr.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_copies_without_a_table_leave_none(gen, tmp_path):
    words = ("--to", "dicom", "--no-table", "--dates", "shift", "--keep-characteristics")
    result = gen("data", "convert", DATA / "torchio_dcm", tmp_path / "out", *words)
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"] and len(list((tmp_path / "out").rglob("*.dcm"))) == 17
    assert gen("data", "convert", DATA / "torchio_dcm", tmp_path / "out", *words).exit_code == 4  # another key


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--to", "nrrd"), 2, "--to nrrd: expected one of nifti, dicom"),
        (("--require", "image,mask"), 2, "--require mask: expected one of image, structures, segmentation"),
        (("--dates", "keep"), 2, "--dates keep"),
        (("--table", "t.json", "--no-table"), 2, "exclude each other"),
        (("--masks", "absent"), 4, "absent: no such file or folder"),
        (("--names", "absent.toml"), 4, "absent.toml: cannot be read"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(words, code, message, gen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gen("data", "convert", DATA / "torchio_dcm", "out", *words)
    assert result.exit_code == code and message in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_source_that_nobody_knows_is_told(gen, tmp_path):
    for source, message in (
        (DATA / "envi_fpi", "nothing there that an installed converter"),
        ("absent", "no such file"),
    ):
        result = gen("data", "convert", source, tmp_path / "out")
        assert result.exit_code == 4 and message in result.stderr
