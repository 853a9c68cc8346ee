"""Which files of a folder are DICOM images, structures or segmentations, told from what they hold."""

from __future__ import annotations

import os

from gen_radiology.dicom.files import walk
from gen_radiology.dicom.find_series import find_objects

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def test_structures_segmentations_and_images_are_told_apart_by_content(dicom, sample_data, tmp_path):
    found = find_objects(sample_data / "sts_002")
    assert [path.name for path in found.structures] == ["RS.dcm", "RS.dcm"] and found.segmentations == []
    assert [series.modality for series in found.series] == ["CT", "MR"]
    found = find_objects(sample_data / "dcmqi_seg")
    assert [path.name for path in found.segmentations] == ["liver.dcm"] and len(found.series) == 1
    assert {path.name: why for path, why in found.left_out}["liver_seg.nrrd"] == "not DICOM"


def test_names_and_nesting_say_nothing(dicom, tmp_path):
    names = ["a/b/c/IM0", "a/b/1.2.840.7", "a/x.dcm", "a/b/.hidden", "a/y.txt"]
    dicom.series(tmp_path, dicom.stored(), names=names)
    (tmp_path / "a" / "z.dcm").write_text("no DICOM in spite of its name")
    found = find_objects(tmp_path)
    (series,) = found.series
    assert {path.name for path in series.files} == {"IM0", "1.2.840.7", "x.dcm", "y.txt"}, "hidden files are left alone"
    assert [(path.name, why) for path, why in found.left_out] == [("z.dcm", "not DICOM")]


def test_a_loop_of_links_and_a_pipe_do_not_hang(dicom, tmp_path):
    dicom.series(tmp_path / "a", dicom.stored())
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "dead").symlink_to(tmp_path / "nowhere")
    assert len(list(walk(tmp_path))) == 5


def test_localizers_colour_and_pictures_without_a_place_are_left_out_with_the_reason(dicom, tmp_path):
    dicom.series(tmp_path / "ct", dicom.stored())

    def localizer(data, z):
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    dicom.series(tmp_path / "scout", dicom.stored((1, 8, 9)), change=localizer, orientation=dicom.CORONAL)
    picture = dicom.put_pixels(dicom.dataset("CT", sop=SECONDARY_CAPTURE), dicom.stored((8, 9)))
    dicom.save(picture, tmp_path / "picture.dcm")
    loop = dicom.put_pixels(dicom.dataset("MR"), dicom.stored((4, 8, 9)))
    loop.NumberOfFrames = 4
    dicom.save(loop, tmp_path / "loop.dcm")
    scan = dicom.put_pixels(dicom.dataset("CT"), dicom.stored((8, 9)))
    scan.Modality = "US"
    dicom.save(scan, tmp_path / "scan.dcm")
    colour = dicom.put_pixels(dicom.dataset("CT"), dicom.stored((8, 9)))
    colour.SamplesPerPixel = 3
    dicom.save(colour, tmp_path / "colour.dcm")
    plan = dicom.dataset("CT", sop="1.2.840.10008.5.1.4.1.1.481.5")
    plan.Modality = "RTPLAN"
    dicom.save(plan, tmp_path / "plan.dcm")
    found = find_objects(tmp_path)
    assert len(found.series) == 1 and found.series[0].shape == (5, 6, 7)
    assert {path.name: why for path, why in found.left_out} == {
        "001.dcm": "localizer",
        "picture.dcm": "CT: no place in the patient",
        "loop.dcm": "MR: several frames without places",
        "scan.dcm": "US: no place in the patient",
        "colour.dcm": "CT: colour, 3 samples a pixel",
        "plan.dcm": "RTPLAN: no pixel data",
    }
