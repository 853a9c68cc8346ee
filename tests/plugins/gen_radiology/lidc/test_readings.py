"""Readings of LIDC-IDRI: the counts of two real files, every error message, and thousands of damaged files."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.lidc.readings import MAX_BYTES, RATINGS, read_readings

DATA = Path(__file__).parents[3] / "data"
CT, XRAY = DATA / "lidc3" / "072.xml", DATA / "lidc3" / "073.xml"
TRUTH = {t["file"]: t for t in json.loads((DATA / "truth.json").read_text())["lidc3"]["xml"]}


def point(x, y, tag="edgeMap"):
    return f"<{tag}><xCoord>{x}</xCoord><yCoord>{y}</yCoord></{tag}>"


def roi(points=((2, 1), (3, 2), (2, 3), (1, 2)), z="-7.5", inclusion="TRUE", uid="1.2.3"):
    return (
        f"<roi><imageZposition> {z} </imageZposition><imageSOP_UID>{uid}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{''.join(point(*p) for p in points)}</roi>"
    )


def nodule(*rois, ratings=None, name="N1"):
    given = "".join(f"<{key}>{value}</{key}>" for key, value in (ratings or {}).items())
    given = f"<characteristics>{given}</characteristics>" if given else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{given}{''.join(rois)}</unblindedReadNodule>"


def write(path, *sessions, before=""):
    inside = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<LidcReadMessage xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>1.2.840.7</SeriesInstanceUid></ResponseHeader>{inside}</LidcReadMessage>"
    )
    return path


def test_the_four_readers_of_a_real_ct_are_counted_as_they_were_independently():
    found, truth = read_readings(CT), TRUTH["072.xml"]
    assert found.kind == "CT" and found.series_uid == truth["series"]
    assert len(found.readings) == truth["readers"]
    assert [len(r.outlined) for r in found.readings] == truth["outlined_nodules_per_reader"]
    assert [len(r.small) for r in found.readings] == truth["points_under_3mm_per_reader"]
    assert [len(r.non_nodules) for r in found.readings] == truth["non_nodules_per_reader"]
    assert [[n.ratings["malignancy"] for n in r.outlined] for r in found.readings] == truth["malignancy"]
    contours = [c for n in found.outlined for c in n.contours]
    assert len(contours) == truth["rois_total"]
    assert sum(len(c.points) for c in contours) == truth["edge_points_total"]
    assert sum(not c.inclusion for c in contours) == truth["exclusion_rois"]
    assert found.notes == [] and all(set(n.ratings) == set(RATINGS) for n in found.outlined)


def test_the_first_marks_of_the_real_file_stand_where_the_file_says():
    first = read_readings(CT).readings[0]
    contour, mark = first.outlined[0].contours[0], first.non_nodules[0]
    assert contour.z == -199.0 and contour.points[:2].tolist() == [[363, 338], [362, 339]]
    assert contour.sop_uid.endswith(".104944699410718419357485553936")
    assert (mark.x, mark.y, mark.z, mark.name) == (179, 341, -91.5, "_Non-nodule 001")


def test_a_chest_x_ray_reading_is_told_apart_and_holds_no_reader():
    found = read_readings(XRAY)
    assert found.kind == "chest X-ray"
    assert len(found.readings) == TRUTH["073.xml"]["readers"] == 0 and found.outlined == []
    assert found.series_uid == "1.3.6.1.4.1.14519.5.2.1.6279.6001.142026812390984321013050559882"


def test_small_marks_holes_and_readers_who_saw_nothing_are_told_apart(tmp_path):
    hole = roi([(5, 4)], inclusion="FALSE")
    path = write(
        tmp_path / "a.xml",
        nodule(roi([(11, 13)]), name="tiny") + nodule(roi(), hole, ratings={"texture": 5}),
        "",
        f"<nonNodule><nonNoduleID>X</nonNoduleID><imageZposition>3</imageZposition>{point(7, 9, 'locus')}</nonNodule>",
    )
    found = read_readings(path)
    one, nothing, other = found.readings
    assert [(m.name, m.x, m.y, m.z, m.sop_uid) for m in one.small] == [("tiny", 11, 13, -7.5, "1.2.3")]
    assert [c.inclusion for c in one.outlined[0].contours] == [True, False]
    assert one.outlined[0].ratings == {"texture": 5}
    assert nothing.outlined == nothing.small == nothing.non_nodules == []
    assert [(m.reader, m.x, m.y, m.z) for m in other.non_nodules] == [(2, 7, 9, 3.0)]


def test_a_series_uid_is_found_however_its_element_is_spelled(tmp_path):
    path = write(tmp_path / "a.xml", "")
    path.write_text(path.read_text().replace("SeriesInstanceUid", "SeriesInstanceUID"))
    assert read_readings(path).series_uid == "1.2.840.7"


def test_ratings_out_of_range_and_empty_nodules_are_passed_over_with_a_note(tmp_path):
    path = write(tmp_path / "a.xml", nodule(roi(), ratings={"texture": 6, "malignancy": 3}) + nodule(name="bare"))
    found = read_readings(path)
    assert found.outlined[0].ratings == {"malignancy": 3}
    assert any("texture is '6', expected 1..5" in note for note in found.notes)
    assert any("'bare': has no point" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not well-formed XML"),
        ("<LidcReadMessage><a>", "not well-formed XML"),
        ("<html/>", "root element is <html>"),
        ("\0\1\2", "not well-formed XML"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", "not well-formed XML"),
    ],
)
def test_what_is_no_annotation_is_refused_in_one_line_that_names_the_file(tmp_path, text, message):
    path = tmp_path / "wrong.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_readings(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (nodule(roi([(1, "two")])), "coordinate 'two' is not a whole number"),
        (nodule(roi([(1, "9" * 30)])), "coordinate '9999"),
        (nodule(roi([(1, 2), (3, -1)])), r"coordinates -1..3 leave 0..4095"),
        (nodule(roi([(1, 2), (3, 5000)])), r"coordinates 1..5000 leave"),
        (nodule(roi(z="nan")), "imageZposition is 'nan'"),
        (nodule(roi(z="")), "imageZposition is ''"),
        (nodule(roi(inclusion="MAYBE")), "inclusion is 'MAYBE'"),
        (nodule(roi([(0, 0), (4000, 4000)] * 9)), "an outline is 72000 pixels long"),
        (nodule(roi()) * 1001, "1001 outlined nodules"),
    ],
)
def test_each_wrong_value_is_named_with_its_reader(tmp_path, session, message):
    path = write(tmp_path / "a.xml", "", session)
    with pytest.raises(DataError, match=message) as caught:
        read_readings(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_entities_are_never_expanded(tmp_path):
    bomb = "<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
        f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(9)
    )
    path = write(tmp_path / "bomb.xml", "&j;", before=bomb + "]>")
    start = time.perf_counter()
    with pytest.raises(DataError, match="document type declaration"):
        read_readings(path)
    assert time.perf_counter() - start < 1
    outside = write(tmp_path / "out.xml", "&f;", before=f"<!DOCTYPE a [<!ENTITY f SYSTEM 'file://{CT}'>]>")
    with pytest.raises(DataError, match="document type declaration"):
        read_readings(outside)


def test_files_too_large_missing_or_folders_are_refused(tmp_path):
    large = tmp_path / "large.xml"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path, message in ((large, "at most"), (tmp_path / "none.xml", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(DataError, match=message):
            read_readings(path)


def test_deep_nesting_does_no_harm(tmp_path):
    path = tmp_path / "deep.xml"
    path.write_text("<LidcReadMessage>" + "<a>" * 100_000 + "</a>" * 100_000 + "</LidcReadMessage>")
    assert read_readings(path).notes == ["deep.xml: no reading session, so nobody read this series"]


def test_damaged_files_give_readings_or_one_line(tmp_path):
    """300 damages of a small file: bytes overwritten, cut out, doubled."""
    whole = nodule(roi(), roi(z="-5", inclusion="FALSE"), ratings={"texture": 4}) + nodule(roi([(11, 13)]))
    original = write(tmp_path / "a.xml", whole, "", whole).read_bytes()
    rng, path, refused = np.random.default_rng(5), tmp_path / "damaged.xml", 0
    for _ in range(300):
        data = bytearray(original)
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        kind = rng.integers(3)
        if kind == 0:
            data[at : at + length] = rng.bytes(length)
        elif kind == 1:
            del data[at : at + length]
        else:
            data[at:at] = data[at : at + length]
        path.write_bytes(data)
        try:
            assert read_readings(path).kind == "CT"
        except DataError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert 100 < refused < 300
