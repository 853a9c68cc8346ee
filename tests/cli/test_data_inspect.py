"""`gen data inspect` on CT and MRI: geometry, values and masks, as JSON and for people."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"
CT = DATA / "sts_002/CT/dicom"
pytest.importorskip("pydicom")


def test_json_is_one_object_with_masks(gen):
    result = gen("data", "inspect", CT / "image", "--masks", CT / "mask/RS.dcm", "--json")
    assert result.exit_code == 0, result.stderr
    found, truth = json.loads(result.stdout), json.loads((DATA / "truth.json").read_text())["sts_002"]["CT"]
    assert found["shape"] == truth["image"]["shape"] and found["sha_f32"] == truth["image"]["sha_f32"]
    assert found["spacing_mm"] == pytest.approx([3.27, 0.976562, 0.976562], abs=1e-4)
    assert found["masks"]["GTV_Mass_CT"]["voxels"] == truth["rtstruct"]["rois"]["GTV_Mass_CT"]["even_odd"]


def test_people_get_a_table_of_masks_and_the_notes(gen):
    result = gen("data", "inspect", DATA / "lidc3/dicom", "--masks", DATA / "lidc3/072.xml")
    assert result.exit_code == 0, result.stderr
    assert "mask      voxels  slices" in result.stdout and "nodule-1  3241" in result.stdout
    assert "! nodule-2: 14 of 14 outlines" in result.stdout


def test_a_folder_with_two_series_is_a_list(gen):
    result = gen("data", "inspect", DATA / "sts_002/MR_T1/dicom", "--json")
    assert json.loads(result.stdout)["modality"] == "MR"
    both = json.loads(gen("data", "inspect", DATA / "sts_002", "--json").stdout)
    assert sorted(one["modality"] for one in both if one.get("modality")) == ["CT", "MR"]
    shown = gen("data", "inspect", DATA / "sts_002").stdout
    assert "48, 143, 161" in shown and "35, 90, 115" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((CT / "mask/RS.dcm",), 4, "RS.dcm"),
        ((CT / "image", "--masks", CT / "image/000000.dcm"), 4, "neither RTSTRUCT nor SEG"),
        ((CT / "image", "--masks", CT / "absent"), 4, "no such file"),
        ((CT / "image", "--geometry", "guess"), 2, "expected one of refuse, warn, resample"),
        ((DATA / "envi_fpi/house_crop_4b_RAW.hdr", "--masks", CT / "mask"), 4, "masks are counted on CT"),
    ],
)
def test_mistakes_are_one_line_with_their_code(words, code, message, gen):
    result = gen("data", "inspect", *words)
    assert result.exit_code == code and message in result.stderr and result.stderr.count("\n") == 1


def test_a_cut_off_slice_is_one_line(gen, tmp_path):
    cut = tmp_path / "000000.dcm"
    cut.write_bytes((CT / "image/000000.dcm").read_bytes()[:-999])
    result = gen("data", "inspect", cut)
    assert result.exit_code == 4 and "000000.dcm" in result.stderr and result.stderr.count("\n") == 1


def test_help_and_the_list_of_plugins_import_neither_torch_nor_pydicom():
    script = """
        import sys
        from typer.testing import CliRunner
        from gen_cli.main import app
        for words in (["data", "--help"], ["data", "convert", "--help"], ["plugins", "list"]):
            assert CliRunner().invoke(app, words).exit_code == 0
        print(sorted({"torch", "pydicom", "highdicom", "nibabel"} & set(sys.modules)))
    """
    code = "\n".join(line.strip() if "assert" not in line else "    " + line.strip() for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
