"""Series of a folder, told apart from headers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series

Z, Y, X = 5, 6, 7


def test_several_patients_and_series_in_one_folder_are_told_apart(dicom, tmp_path):
    made = {}
    for i, (patient, series) in enumerate([("B", "1.1"), ("A", "1.2"), ("A", "1.3")]):
        stored = made[patient, series] = dicom.stored((Z + i, Y, X), seed=i)
        names = [f"{patient}{series}-{z:03d}" for z in range(len(stored))]
        dicom.series(tmp_path, stored, names=names, patient=patient, series=series)
    found = find_series(tmp_path)
    assert [(s.subject, s.series_uid) for s in found] == [("A", "1.2"), ("A", "1.3"), ("B", "1.1")]
    assert len({series.id for series in found}) == 3 and all(s.id.startswith(f"{s.subject}-CT-s7") for s in found)
    for series in found:
        (image,) = read_series(series)
        assert np.array_equal(image.array, made[series.subject, series.series_uid] - 1024.0)
        assert (image.id, image.subject) == (series.id, series.subject)


def test_mixed_orientations_and_sizes_of_one_series_are_parted_and_told(dicom, tmp_path):
    axial, sagittal, small = dicom.stored((Z, Y, X)), dicom.stored((3, Y, X), seed=1), dicom.stored((2, 4, 3), seed=2)
    dicom.series(tmp_path / "a", axial)
    dicom.series(tmp_path / "b", sagittal, orientation=dicom.SAGITTAL)
    dicom.series(tmp_path / "c", small)
    found = find_series(tmp_path)
    assert [series.shape for series in found] == [(Z, Y, X), (3, Y, X), (2, 4, 3)]
    assert len({series.id for series in found}) == 3 and {series.series_uid for series in found} == {"1.2.3.4"}
    for series, stored in zip(found, (axial, sagittal, small)):
        (image,) = read_series(series)
        assert np.array_equal(image.array, stored - 1024.0)
        assert "5 of 6 x 7 axial, 3 of 6 x 7 sagittal, 2 of 4 x 3 axial" in image.warnings[0]


def test_the_subject_is_the_patient_or_a_hash_of_the_name_or_the_folder(dicom, tmp_path):
    def anonymous(data, z):
        del data.PatientID

    def nameless(data, z):
        data.PatientID, data.PatientName = "", ""

    dicom.series(tmp_path / "x", dicom.stored((Z, Y, X)), change=anonymous, series="1.1")
    dicom.series(tmp_path / "folder 7", dicom.stored((Z, Y, X)), change=nameless, series="1.2")
    subjects = {series.series_uid: series.subject for series in find_series(tmp_path)}
    assert subjects == {"1.1": "name-" + hashlib.sha256(b"Doe^Jane").hexdigest()[:12], "1.2": "folder 7"}
    assert not any("Doe" in series.id for series in find_series(tmp_path))


def test_ids_are_names_for_files(dicom, tmp_path):
    dicom.series(tmp_path, dicom.stored((Z, Y, X)), patient="../a b/\u00e9|c")
    (series,) = find_series(tmp_path)
    assert set(series.id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not series.id.startswith(".")


def test_equal_series_uids_of_two_patients_stay_apart(dicom, tmp_path):
    for patient in "AB":
        dicom.series(tmp_path / patient, dicom.stored((Z, Y, X), seed=ord(patient)), patient=patient)
    assert [series.subject for series in find_series(tmp_path)] == ["A", "B"]


def test_a_damaged_slice_spoils_its_series_and_no_other(dicom, tmp_path):
    dicom.series(tmp_path / "good", dicom.stored((Z, Y, X)), series="1.1")
    paths = dicom.series(tmp_path / "bad", dicom.stored((Z, Y, X)), series="1.2")
    for path in paths[3:]:
        path.write_bytes(path.read_bytes()[:-4])
    good, bad = sorted(find_series(tmp_path), key=lambda series: series.series_uid)
    assert len(read_series(good)) == 1
    with pytest.raises(DataError, match=r"00.\.dcm: .* truncated \(and 1 more files of P1-CT"):
        read_series(bad)
    assert len(bad.problems) == 2


def test_headers_of_a_series_share_what_they_have_in_common(dicom, tmp_path):
    dicom.series(tmp_path, dicom.stored((Z, Y, X)))
    (series,) = find_series(tmp_path)
    assert len({id(frame.header.elements) for frame in series.frames}) == 1
