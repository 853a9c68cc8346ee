"""The reader of DICOM: the contract of readers, what it says of a series, and how it chooses among several."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.inspect import describe
from gen_core.testing import check_reader
from gen_radiology.dicom.reader import build
from gen_radiology.reader_options import DicomReader


@pytest.fixture
def reader():
    return build(DicomReader())


def test_the_reader_keeps_its_contract_on_one_file_and_on_a_folder(dicom, reader, tmp_path):
    stored = dicom.stored((5, 6, 7))
    paths = dicom.series(tmp_path, stored)
    check_reader(reader, paths[2], stored[2:3] - 1024.0)
    check_reader(reader, tmp_path, stored - 1024.0)


def test_inspection_of_a_real_folder_tells_the_truth(reader, sample_data):
    truth = json.loads((sample_data / "truth.json").read_text())["sts_002"]["CT"]["image"]
    facts = describe(reader.open(sample_data / "sts_002" / "CT" / "dicom", guess=True))
    assert facts["axes"] == "zyx" and facts["dtype"] == "float32"
    assert facts["sha_f32"] == truth["sha_f32"] and facts["shape"] == truth["shape"]
    meta = facts["meta"]
    assert meta["spacing_mm"] == pytest.approx([3.27, 0.976562, 0.976562], abs=1e-4)
    assert meta["origin_lps_mm"] == pytest.approx(truth["origin_first_slice_xyz"], abs=1e-4)
    assert np.allclose(meta["directions"], [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-4)
    assert (meta["modality"], meta["units"]) == ("CT", "HU")
    assert meta["counts"] == {
        "series": 1, "images": 1, "slices": 48, "files": 48, "structures": 1, "segmentations": 0, "left_out": 0
    }  # fmt: skip
    json.dumps(facts)


def test_among_several_series_one_is_named_or_the_largest_guessed(dicom, reader, tmp_path):
    small, large = dicom.stored((5, 6, 7)), dicom.stored((9, 6, 7))
    dicom.series(tmp_path / "a", small, series="1.1", patient="A")
    dicom.series(tmp_path / "b", large, series="1.2", patient="B")
    with pytest.raises(DataError, match="holds 2 series, name one: A-CT-s7, B-CT-s7"):
        reader.open(tmp_path)
    guessed = reader.open(tmp_path, guess=True)
    assert guessed.array.shape == (9, 6, 7) and "this is 'B-CT-s7'" in guessed.warnings[0]
    assert np.array_equal(reader.open(tmp_path, variable="A-CT-s7").array, small - 1024.0)
    with pytest.raises(DataError, match="no series 'C'; there are A-CT-s7, B-CT-s7"):
        reader.open(tmp_path, variable="C")
    assert len(reader.files(tmp_path)) == 14


def test_among_several_images_one_is_named(dicom, reader, tmp_path):
    echoes = [dicom.stored((5, 6, 7), seed=t) for t in range(2)]
    for t, stored in enumerate(echoes):
        dicom.series(
            tmp_path / str(t), stored, "MR", rescale=None,
            change=lambda data, z, t=t: setattr(data, "EchoTime", str(10 + t)),
        )  # fmt: skip
    with pytest.raises(DataError, match="holds 2 images at the same places, name one: P1-MR-s7-te10, P1-MR-s7-te11"):
        reader.open(tmp_path)
    assert np.array_equal(reader.open(tmp_path, variable="P1-MR-s7-te11").array, echoes[1])
    raw = reader.open(tmp_path, guess=True)
    assert np.array_equal(raw.array, echoes[0]) and raw.meta["counts"]["images"] == 2


def test_what_is_no_image_is_refused_saying_what_it_is(dicom, reader, sample_data, tmp_path):
    with pytest.raises(DataError, match=r"RS.dcm: no DICOM images \(1 RTSTRUCT there\)"):
        reader.open(sample_data / "sts_002" / "CT" / "dicom" / "mask" / "RS.dcm")
    with pytest.raises(DataError, match=r"liver.dcm: no DICOM images \(1 SEG there\)"):
        reader.open(sample_data / "dcmqi_seg" / "liver.dcm")
    with pytest.raises(DataError, match="ATTRIBUTION.md: not DICOM"):
        reader.open(sample_data / "lidc3" / "ATTRIBUTION.md")


def test_the_policy_is_the_readers_setting(dicom, tmp_path):
    positions = [(0, 0, z) for z in (0, 1, 2, 5, 6)]
    dicom.series(tmp_path, dicom.stored((5, 6, 7)), positions=positions)
    with pytest.raises(DataError, match="2 slices are missing"):
        build(DicomReader()).open(tmp_path)
    assert build(DicomReader("warn")).open(tmp_path).array.shape == (5, 6, 7)
    assert build(DicomReader("resample")).open(tmp_path).array.shape == (7, 6, 7)


def test_damaged_files_beside_a_series_are_told(dicom, reader, tmp_path):
    paths = dicom.series(tmp_path, dicom.stored((5, 6, 7)))
    (tmp_path / "cut").write_bytes(paths[0].read_bytes()[:140])
    (warning,) = reader.open(tmp_path).warnings
    assert "cut: damaged: the header breaks off" in warning
