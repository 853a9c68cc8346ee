"""Who has what, by patient; tables that a spreadsheet opens."""

import csv

from gen_radiology.conversion.completeness import Inventory, write_csv


def test_rows_tell_what_each_patient_has_and_lacks():
    inventory = Inventory()
    inventory.add("b", "image", 2)
    inventory.add("b", "structures")
    inventory.add("a", "segmentation", 3)
    assert inventory.rows(("image", "structures")) == [
        {
            "patient": "a",
            "image": 0,
            "structures": 0,
            "segmentation": 3,
            "complete": False,
            "missing": "image, structures",
        },
        {"patient": "b", "image": 2, "structures": 1, "segmentation": 0, "complete": True, "missing": ""},
    ]
    assert inventory.missing("b", ("segmentation", "image")) == ["segmentation"]
    assert inventory.rows(())[0]["complete"]


def test_csv_quotes_what_needs_it_and_defuses_formulas(tmp_path):
    rows = [{"patient": "a", "reason": 'gap of 2,5 "mm"', "path": "hidden"}, {"patient": "=1+1", "reason": "-x"}]
    write_csv(tmp_path / "t.csv", rows, ["patient", "reason"])
    with (tmp_path / "t.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{"patient": "a", "reason": 'gap of 2,5 "mm"'}, {"patient": "'=1+1", "reason": "'-x"}]
    write_csv(tmp_path / "none.csv", [], ["patient", "reason"])
    assert (tmp_path / "none.csv").read_text() == "patient,reason\n"
