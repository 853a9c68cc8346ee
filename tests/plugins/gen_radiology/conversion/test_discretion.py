"""Messages lose paths, names and numbers; of a file of nobody, those of every patient."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gen_core.writer import Conversion
from gen_radiology.conversion.converted_files import Unit
from gen_radiology.conversion.discretion import Discretion
from gen_radiology.conversion.mask_files import MaskFile

SOURCE = Path("/data/Export of Dr Who")


@pytest.fixture
def known():
    found = Discretion(Conversion(SOURCE, Path("/set")))
    for patient, subject in (("P-1", "MRN-775533"), ("P-2", "MRN-424299")):
        series = SimpleNamespace(subject=subject, id=f"{subject}-CT-s7", study_uid="1.2.826.1", series_uid="1.2.826.2")
        found.know(Unit(series, patient, "ct-1", [MaskFile(Path("/m/Who_RS.dcm"), "structures")]))
    return found


@pytest.mark.parametrize(
    ("reason", "patient", "told"),
    [
        ("/data/Export of Dr Who/Jane Doe/a.dcm: gaps of 2.5 and 5 mm", "P-1", "[file]: gaps of 2.5 and 5 mm"),
        ("another grid than mrn-775533-CT-s7", "P-1", "another grid than [removed]"),
        ("series 1.2.826.2 of MRN-424299 in x/y/z", "", "series [removed] of [removed] in [file]"),
        ("spacing 0 x 2.5", "P-2", "spacing 0 x 2.5"),
    ],
)
def test_reasons_tell_what_is_wrong_and_not_of_whom(reason, patient, told, known):
    found = known.reason({"reason": reason, "patient": patient})
    assert found == told


def test_names_of_mask_files_are_taken_out_of_notes_but_do_not_hide_regions(known):
    unit = Unit(SimpleNamespace(), "P-1", "ct-1", [MaskFile(Path("/m/liver.dcm"), "segmentation")])
    assert known.quiet("liver.dcm: on another grid", "P-1", unit) == "[removed]: on another grid"
    assert not known.hides("liver", "P-1") and known.hides("GTV of mrn-775533", "P-1")


def test_with_ids_kept_everything_may_be_told():
    free = Discretion(Conversion(SOURCE, Path("/set"), keep_ids=True), {"a": {"jane"}})
    row = {"reason": f"{SOURCE}/jane.dcm: bad", "patient": "a"}
    assert free.reason(row) == row["reason"] and not free.hides("jane", "a")
