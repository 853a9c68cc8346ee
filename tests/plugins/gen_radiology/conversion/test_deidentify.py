"""Nothing that is not listed travels: planted names, numbers, dates and UIDs are searched for in the bytes written."""

import stat
from datetime import date

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from gen_core.errors import DataError
from gen_radiology.conversion.deidentify import (
    CHARACTERISTICS,
    CLASS_UIDS,
    KEPT,
    NEW_UIDS,
    Cleaner,
    burned_in,
    gives_away,
    header_facts,
    read_file,
    telling_words,
    without,
)
from gen_radiology.conversion.pseudonyms import Pseudonyms

ROOT = "1.2.826.0.1.424242"  # of every UID that is planted
PLANTED = ("Zaphod", "Beeblebrox", "MRN-775533", "19520311", "20140607", "Magrathea", "Trillian", "ACC-99187", ROOT)
# PS3.15 table E.1-1, basic profile: what must be removed, emptied or replaced (a part of it), and what gets a new UID
BASIC_PROFILE = """AccessionNumber AcquisitionComments AcquisitionDate AcquisitionDateTime AcquisitionTime AdmissionID
AdmittingDate BranchOfService ContentCreatorName ContentDate ContentTime ContrastBolusAgent CurrentPatientLocation
DeviceSerialNumber EthnicGroup FrameComments GantryID ImageComments InstanceCreatorUID InstitutionAddress
InstitutionName InstitutionalDepartmentName IssuerOfPatientID MedicalAlerts MilitaryRank NameOfPhysiciansReadingStudy
Occupation OperatorsName OtherPatientIDs OtherPatientNames PatientAddress PatientAge PatientBirthDate PatientBirthTime
PatientComments PatientID PatientName PatientReligiousPreference PatientSex PatientSize PatientTelephoneNumbers
PatientWeight PerformedProcedureStepDescription PerformedProcedureStepStartDate PerformingPhysicianName
PhysiciansOfRecord ProtocolName ReasonForTheRequestedProcedure ReferringPhysicianName RequestAttributesSequence
RequestedProcedureDescription RequestingPhysician SeriesDate SeriesDescription SeriesTime StationName StudyComments
StudyDate StudyDescription StudyID StudyTime StructureSetDate StructureSetName UID ROIDescription""".split()
NEW = """FrameOfReferenceUID ReferencedFrameOfReferenceUID ReferencedSOPInstanceUID SeriesInstanceUID SOPInstanceUID
StudyInstanceUID DimensionOrganizationUID""".split()


@pytest.fixture
def planted(dicom, tmp_path):
    """A CT slice that tells of its patient wherever it can."""
    data = dicom.dataset(patient="MRN-775533", uid=f"{ROOT}.1", series=f"{ROOT}.2")
    dicom.put_pixels(data, dicom.stored((6, 7)))
    data.PatientName, data.PatientBirthDate, data.PatientSex = "Beeblebrox^Zaphod", "19520311", "M"
    data.PatientAge, data.PatientWeight = "093Y", "81.5"
    data.StudyDate = data.SeriesDate = data.ContentDate = "20140607"
    data.AcquisitionDateTime, data.StudyTime = "20140607101112", "101112"
    data.StudyInstanceUID, data.FrameOfReferenceUID = f"{ROOT}.3", f"{ROOT}.4"
    data.InstitutionName, data.ReferringPhysicianName = "Magrathea Clinic", "Trillian"
    data.AccessionNumber, data.SeriesDescription = "ACC-99187", "head of Zaphod"
    data.ConvolutionKernel = "B Beeblebrox"  # a listed element that tells
    data.ManufacturerModelName, data.KVP, data.BodyPartExamined = "Sensation 16", "120", "HEAD"
    data.ImagePositionPatient, data.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.RescaleSlope, data.RescaleIntercept = [0.75, 0.5], 1, -1024
    block = data.private_block(0x0029, "MAGRATHEA", create=True)
    block.add_new(0x01, "LO", "Zaphod")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = data.SOPClassUID, f"{ROOT}.5"
    item.PatientName = "Beeblebrox"
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = f"{ROOT}.2", [item]
    data.ReferencedSeriesSequence = [series]
    data.RequestAttributesSequence = [item]
    data.add_new(0x60000010, "US", 6)
    data.add_new(0x60003000, "OW", b"Zaphod..")
    data.add_new(0x60004000, "LT", "Zaphod")
    data.add_new(0x50003000, "OW", b"Trillian")
    data.add_new(0xFFFCFFFC, "OB", b"Beeblebrox")
    data.add_new(0x00187070, "UN", b"Zaphod  ")
    path = tmp_path / "Zaphod.dcm"
    data.preamble = b"Beeblebrox".ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = "MAGRATHEA"
    return dicom.save(data, path)


def cleaned(path, tmp_path, **options):
    pseudonyms = options.pop("pseudonyms", None) or Pseudonyms(bytes(range(32)))
    copy = Cleaner(pseudonyms, **options).clean(read_file(path))
    copy.save_as(tmp_path / "clean.dcm", enforce_file_format=True)
    return pydicom.dcmread(tmp_path / "clean.dcm"), (tmp_path / "clean.dcm").read_bytes()


def test_no_planted_word_survives_in_the_bytes(planted, tmp_path):
    before = planted.read_bytes().lower()
    assert all(word.lower().encode() in before for word in PLANTED)
    _, after = cleaned(planted, tmp_path)
    assert [word for word in PLANTED if word.lower().encode() in after.lower()] == []


def test_only_listed_elements_are_there_at_any_depth(planted, tmp_path):
    copy, _ = cleaned(planted, tmp_path)
    said = {"PatientID", "PatientName", "PatientIdentityRemoved", "DeidentificationMethod", "StudyDate", "StudyTime"}
    said |= {"DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified", "AccessionNumber"}
    said |= {"ReferringPhysicianName", "StudyID", "PatientBirthDate", "PatientSex"}
    assert {e.keyword for e in copy.iterall()} <= KEPT | NEW_UIDS | CLASS_UIDS | said
    assert copy.PatientBirthDate == copy.StudyDate == copy.PatientSex == copy.AccessionNumber == ""
    assert copy.PatientIdentityRemoved == "YES" and copy.LongitudinalTemporalInformationModified == "REMOVED"
    assert [c.CodeValue for c in copy.DeidentificationMethodCodeSequence] == ["113100"]
    assert "ConvolutionKernel" not in copy and copy.BodyPartExamined == "HEAD"


def test_the_basic_profile_is_kept_by_the_lists():
    assert not set(BASIC_PROFILE) & KEPT and not set(BASIC_PROFILE) & NEW_UIDS
    assert set(NEW) == NEW_UIDS and not NEW_UIDS & KEPT
    assert set(BASIC_PROFILE) >= CHARACTERISTICS  # kept only where they are asked for


def test_pixels_and_geometry_stay(planted, tmp_path):
    copy, _ = cleaned(planted, tmp_path)
    source = pydicom.dcmread(planted)
    assert np.array_equal(copy.pixel_array, source.pixel_array)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept", "KVP"):
        assert copy[keyword].value == source[keyword].value
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID and "SourceApplicationEntityTitle" not in (
        copy.file_meta
    )


def test_references_stay_whole_under_one_key_and_change_with_it(planted, tmp_path):
    copy, _ = cleaned(planted, tmp_path)
    names = Pseudonyms(bytes(range(32)))
    (series,) = copy.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == copy.SeriesInstanceUID == names.uid(f"{ROOT}.2")
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == names.uid(f"{ROOT}.5")
    assert series.ReferencedInstanceSequence[0].ReferencedSOPClassUID == copy.SOPClassUID
    uids = {names.uid(str(k)) for k in range(50)}
    assert len(uids) == 50 and all(pydicom.uid.UID(u).is_valid and len(u) <= 64 for u in uids)
    other, _ = cleaned(planted, tmp_path, pseudonyms=Pseudonyms(bytes(32)))
    assert other.SeriesInstanceUID != copy.SeriesInstanceUID and other.PatientID != copy.PatientID


def test_dates_are_shifted_by_the_same_days_a_patient(planted, tmp_path):
    copy, after = cleaned(planted, tmp_path, dates="shift")
    assert copy.StudyDate == copy.SeriesDate != "20140607" and b"20140607" not in after
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    names = Pseudonyms()
    day = lambda text: date(int(text[:4]), int(text[4:6]), int(text[6:]))
    for patient in ("a", "b", "c"):
        first, last = (day(names.shifted(patient, d)) for d in ("20120228", "20140607"))
        assert (last - first).days == (date(2014, 6, 7) - date(2012, 2, 28)).days
        assert 1 <= (date(2014, 6, 7) - last).days <= 3650
    assert names.shifted("a", "20140607") != names.shifted("b", "20140607")
    assert names.shifted("a", "yesterday") == names.shifted("a", "20141399") == ""


def test_characteristics_stay_where_asked_for_and_the_oldest_are_90(planted, tmp_path):
    copy, _ = cleaned(planted, tmp_path, characteristics=True)
    assert (copy.PatientSex, copy.PatientAge, copy.PatientWeight) == ("M", "090Y", 81.5)
    assert "113108" in [c.CodeValue for c in copy.DeidentificationMethodCodeSequence]
    assert header_facts(copy, True)["PatientAge"] == "090Y" and "PatientAge" not in header_facts(copy, False)
    assert header_facts(copy, False)["KVP"] == 120.0 and "PatientID" not in header_facts(copy, True)


def test_names_of_regions_lose_what_tells(dicom, tmp_path):
    data = dicom.dataset(patient="MRN-775533", sop="1.2.840.10008.5.1.4.1.1.481.3")
    data.PatientName = "Beeblebrox^Zaphod"
    regions = []
    for number, name in ((1, "GTV-1"), (2, "tumour of zaphod")):
        item = Dataset()
        item.ROINumber, item.ROIName, item.ROIDescription = number, name, "drawn by Trillian"
        regions.append(item)
    data.StructureSetROISequence, data.StructureSetLabel = regions, "Zaphod"
    dicom.save(data, tmp_path / "rs.dcm")
    copy, after = cleaned(tmp_path / "rs.dcm", tmp_path)
    assert [r.ROIName for r in copy.StructureSetROISequence] == ["GTV-1", "region-2"]
    assert b"Trillian" not in after and b"ZAPHOD" not in after.upper() and copy.StructureSetLabel == "structures"


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_overlays_in_the_bits_above_are_cleared(dtype, dicom, tmp_path):
    low = -2000 if dtype == "i2" else 0
    stored = np.random.default_rng(0).integers(low, 2000, (6, 7)).astype(dtype)
    drawn = stored.view("u2") & 0x0FFF | np.random.default_rng(1).integers(0, 16, (6, 7)).astype("u2") << 12
    data = dicom.put_pixels(dicom.dataset(), drawn.view(dtype), bits=12)
    data.add_new(0x60000100, "US", 16)
    data.add_new(0x60000102, "US", 13)
    dicom.save(data, tmp_path / "overlay.dcm")
    copy, _ = cleaned(tmp_path / "overlay.dcm", tmp_path)
    assert np.array_equal(np.frombuffer(copy.PixelData, f"<{dtype}").reshape(6, 7), stored)
    data.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    dicom.save(data, tmp_path / "packed.dcm")
    with pytest.raises(DataError, match=r"packed\.dcm: an overlay is embedded"):
        Cleaner(Pseudonyms()).clean(read_file(tmp_path / "packed.dcm"))


def test_what_may_show_a_name_is_found(dicom, tmp_path):
    data = dicom.put_pixels(dicom.dataset(), dicom.stored((6, 7)))
    path = dicom.save(data, tmp_path / "a.dcm")
    assert burned_in((path,)) == ""
    data.RecognizableVisualFeatures = "YES"
    assert "Recognizable" in burned_in((dicom.save(data, path),))
    data.BurnedInAnnotation = "YES"
    assert "(0028,0301) is YES" in burned_in((dicom.save(data, path),))
    shot = dicom.put_pixels(dicom.dataset(sop="1.2.840.10008.5.1.4.1.1.7"), dicom.stored((6, 7)))
    assert "secondary capture" in burned_in((dicom.save(shot, path),))
    shot.BurnedInAnnotation = "NO"
    assert burned_in((dicom.save(shot, path),)) == ""


def test_words_that_tell_are_found_and_taken_out(planted):
    words = telling_words(pydicom.dcmread(planted))
    assert {"zaphod", "beeblebrox", "mrn-775533", "19520311", "magrathea clinic", "acc-99187"} <= words
    assert gives_away("Head of ZAPHOD", words) and not gives_away("head", words)
    assert without("ROI 'zaphod gtv' of MRN-775533", words) == "ROI '[removed] gtv' of [removed]"


def test_a_file_without_preamble_is_cleaned_too(dicom, tmp_path):
    data = dicom.put_pixels(dicom.dataset(syntax=dicom.IMPLICIT, patient="MRN-775533"), dicom.stored((6, 7)))
    del data.file_meta
    data.save_as(tmp_path / "old.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    copy, after = cleaned(tmp_path / "old.dcm", tmp_path)
    assert copy.PatientID.startswith("P-") and b"MRN" not in after
    assert np.array_equal(copy.pixel_array, dicom.stored((6, 7)))


def test_the_table_is_for_its_owner_and_lies_outside(tmp_path):
    target, table = tmp_path / "set", tmp_path / "set.json"
    names = Pseudonyms.load(table, target)
    given = names.patient("MRN-775533"), names.uid("1.2.3")
    names.save(table)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    again = Pseudonyms.load(table, target)
    assert (again.patient("MRN-775533"), again.uid("1.2.3")) == given and again.fingerprint == names.fingerprint
    assert again.patients == {"MRN-775533": given[0]}
    with pytest.raises(DataError, match="must not lie in the folder"):
        Pseudonyms.load(target / "table.json", target)
    for damaged in (
        "{",
        "[]",
        '{"key": "zz", "patients": {}, "files": {}}',
        '{"key": "00", "patients": {}, "files": {}}',
    ):
        table.write_text(damaged)
        with pytest.raises(DataError, match=r"set\.json: "):
            Pseudonyms.load(table, target)
    assert Pseudonyms.load(None, target).patient("a") != Pseudonyms.load(None, target).patient("a")


def test_kept_ids_are_said_to_be_kept(planted, tmp_path):
    copy, _ = cleaned(planted, tmp_path, pseudonyms=Pseudonyms(bytes(32), keep_ids=True))
    assert copy.PatientID == "MRN-775533" and copy.PatientIdentityRemoved == "NO"
    assert "DeidentificationMethodCodeSequence" not in copy and ROOT not in copy.SOPInstanceUID
