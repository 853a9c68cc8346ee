"""What header scans find: held against pydicom, on real files and on files that are not what they seem."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.elements import TAGS
from gen_radiology.dicom.files import walk
from gen_radiology.dicom.find_series import find_objects
from gen_radiology.dicom.header import NotDicom, is_dicom, read_header


def dicom_files(folder):
    return [path for path in walk(folder) if is_dicom(path)]


def test_every_wanted_element_of_the_real_files_is_what_pydicom_reads(dicom, sample_data):
    from pydicom import dcmread

    compared = 0
    files = [p for name in ("sts_002", "lidc3", "dcmqi_seg", "torchio_dcm") for p in dicom_files(sample_data / name)]
    assert len(files) == 48 + 35 + 2 + 11 + 3 + 1 + 17
    for path in files[::3]:
        header, data = read_header(path), dcmread(path, stop_before_pixels=True)
        assert header.damage == ""
        assert header.syntax == data.file_meta.TransferSyntaxUID
        for name, (tag, vr) in TAGS.items():
            element = data.get(tag)
            if name == "TransferSyntaxUID" or element is None or element.value in (None, ""):
                continue
            if name == "PixelPaddingValue" and header.syntax == dicom.IMPLICIT:  # signed or not: the pixels say
                continue
            if vr in (b"DS", b"IS", b"US", b"FD", b"FL"):
                expected = np.ravel(np.asarray(element.value, float))
                assert header.numbers(name) == pytest.approx(tuple(expected)), (path.name, name)
            else:
                value = element.value
                text = "\\".join(map(str, value)) if element.VM > 1 else str(value)
                assert header.text(name) == text.strip(), (path.name, name)
            compared += 1
    assert compared > 500


@pytest.mark.parametrize("explicit", [True, False])
def test_an_old_file_without_preamble_is_read(dicom, tmp_path, explicit):
    stored = dicom.stored()
    syntax = dicom.EXPLICIT if explicit else dicom.IMPLICIT
    for path in dicom.series(tmp_path, stored, syntax=syntax):
        raw = path.read_bytes()[132:]
        if not explicit:  # nor with file meta
            raw = raw[raw.index(b"\x08\0\x16\0") :]
        path.write_bytes(raw)
    (series,) = find_objects(tmp_path).series
    assert series.shape == stored.shape


def test_sequences_of_undefined_length_are_skipped_however_deep(dicom, tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def change(data, z):
        inner, outer = Dataset(), Dataset()
        inner.CodeValue, inner.Rows = "X", 99  # not the rows of the image
        outer.ConceptCodeSequence = Sequence([inner, inner])
        outer["ConceptCodeSequence"].is_undefined_length = True
        data.ReferencedImageSequence = Sequence([outer, Dataset()])
        data["ReferencedImageSequence"].is_undefined_length = True
        data.add_new(0x00290010, "LO", "SOMEONE")
        data.add_new(0x00291010, "OB", b"x" * 20000)

    for name, syntax in (("explicit", dicom.EXPLICIT), ("implicit", dicom.IMPLICIT)):
        stored = dicom.stored()
        dicom.series(tmp_path / name, stored, change=change, syntax=syntax)
        (series,) = find_objects(tmp_path / name).series
        assert series.shape == stored.shape, name
    # deeper than Python recurses
    path = series.files[0]
    head = read_header(path)
    raw = path.read_bytes()
    at = raw.index(b"\x28\0\x02\0")
    nested = b"\x10\0\x02\x10\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 5000
    closed = b"\xfe\xff\r\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * 5000
    path.write_bytes(raw[:at] + nested + closed + raw[at:])
    deep = read_header(path)
    assert deep.damage == "" and deep.pixels[2] == head.pixels[2] + len(nested + closed)


def test_a_header_that_breaks_off_is_left_out_or_refused_naming_the_file(dicom, tmp_path):
    paths = dicom.series(tmp_path, dicom.stored())
    raw = paths[0].read_bytes()
    whole = read_header(paths[0])
    for cut in range(140, whole.pixels[2], 37):
        paths[0].write_bytes(raw[:cut])
        found = find_objects(paths[0])
        if found.series:
            from gen_radiology.dicom.read_series import read_series

            with pytest.raises(DataError, match=paths[0].name):
                read_series(found.series[0])
        else:
            assert found.left_out[0][0] == paths[0] and found.left_out[0][1].startswith(("damaged", "CT", "object"))


@pytest.mark.parametrize(
    ("tag", "vr", "value", "message"),
    [
        (b"\x28\0\x10\0", b"LO", b"\x06\0", r"Rows is '\\x06\\x00' with VR LO, expected US numbers"),
        (b"\x28\0\x10\0", b"FL", b"\x06\0", "Rows is"),
        (b"\x28\0\x10\0", b"ZZ", b"\x06\0", r"\(0028,0010\) has no VR that exists"),
        (b"\x28\0\0\1", b"AT", b"\x10\0", "BitsAllocated is"),
    ],
)
def test_a_wrong_vr_is_refused_naming_file_and_key(dicom, tmp_path, tag, vr, value, message):
    from gen_radiology.dicom.read_series import read_series

    (path,) = dicom.series(tmp_path, dicom.stored((1, 6, 7)))
    raw = path.read_bytes()
    at = raw.index(tag + b"US")
    path.write_bytes(raw[: at + 4] + vr + struct.pack("<H", len(value)) + value + raw[at + 10 :])
    found = find_objects(tmp_path)
    if found.series:
        with pytest.raises(DataError, match=message) as error:
            read_series(found.series[0])
        assert str(path) in str(error.value)
    else:
        assert message.replace("\\", "") in found.left_out[0][1]


def test_a_number_with_another_fitting_vr_is_read(dicom, tmp_path):
    (path,) = dicom.series(tmp_path, dicom.stored((1, 6, 7)))
    raw = path.read_bytes()
    at = raw.index(b"\x28\0\x10\0US")
    path.write_bytes(raw[: at + 4] + b"IS\2\0" + b"6 " + raw[at + 10 :])
    assert find_objects(tmp_path).series[0].shape == (1, 6, 7)


def test_a_header_without_end_is_refused_quickly(tmp_path):
    path = tmp_path / "endless.dcm"
    with path.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0UN\0\0" + struct.pack("<I", 1 << 31))
        file.truncate(1 << 32)  # sparse
    start = time.perf_counter()
    with pytest.raises(DataError, match="endless.dcm: the header is longer than 64 MiB"):
        read_header(path)
    assert time.perf_counter() - start < 5


def test_other_files_are_not_dicom(tmp_path, sample_data):
    for name, content in (("empty", b""), ("text", b"hello" * 100), ("zeros", b"\0" * 500), ("short", b"\x08\0")):
        (tmp_path / name).write_bytes(content)
        assert not is_dicom(tmp_path / name)
        with pytest.raises(NotDicom):
            read_header(tmp_path / name)
    assert not is_dicom(tmp_path / "absent")
    assert not is_dicom(sample_data / "lidc3" / "072.xml")


def test_text_is_read_in_its_character_set(dicom, tmp_path):
    def change(data, z):
        data.SpecificCharacterSet, data.SeriesDescription = "ISO_IR 192", "Schädel \u80ba"

    dicom.series(tmp_path, dicom.stored(), change=change)
    (series,) = find_objects(tmp_path).series
    assert series.description == "Schädel \u80ba" and series.id == "P1-CT-s7-Sch-del"
