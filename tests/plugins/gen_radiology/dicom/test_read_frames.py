"""Pixels as physical values: against the stored numbers that were written, pydicom and the formula in float64."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from gen_core.errors import DataError, MissingError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.header import read_header
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.stored_pixels import stored as how_stored

Z, Y, X = 5, 6, 7
RLE, J2K, J2K_LOSSY = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
JPEG_LS, DEFLATED = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"


def read(folder, **options):
    (series,) = find_series(folder)
    (image,) = read_series(series, **options)
    return image


@pytest.mark.parametrize(
    ("dtype", "bits", "low", "high"),
    [("i2", 16, -32768, 32767), ("u2", 16, 0, 65535), ("i2", 12, -2048, 2047), ("u2", 12, 0, 4095), ("u1", 8, 0, 255),
     ("i1", 8, -128, 127), ("i4", 32, -(2**31), 2**31 - 1), ("u4", 20, 0, 2**20 - 1)],
)  # fmt: skip
def test_signed_and_unsigned_values_of_any_depth(dicom, tmp_path, dtype, bits, low, high):
    stored = dicom.stored((Z, Y, X), dtype, low, high)
    stored[0, 0, :2] = low, high
    dicom.series(tmp_path, stored, bits=bits, rescale=(2, -1024))
    assert np.array_equal(read(tmp_path).array, (2.0 * stored.astype(np.float64) - 1024).astype("f4"))


def test_bits_that_are_not_stored_are_ignored_and_the_sign_is_extended(dicom, tmp_path):
    meant = dicom.stored((Z, Y, X), "i2", -2048, 2047)
    rubbish = (meant & 0x0FFF | 0xA000 - 0x10000).astype("i2")
    dicom.series(tmp_path / "signed", rubbish, bits=12)
    assert np.array_equal(read(tmp_path / "signed").array, meant - 1024.0)
    meant = dicom.stored((Z, Y, X), "u2", 0, 4095)

    def shifted(data, z):
        data.HighBit = 13

    dicom.series(tmp_path / "high", meant << 2 | 0x8003, bits=12, change=shifted)
    assert np.array_equal(read(tmp_path / "high").array, meant - 1024.0)


@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, 0), (1, -1024), (3, 7), (0.1, -3.3), (1e-5, 0), (1, 0.5), (-2, 1)]
)
def test_rescaling_is_that_of_float64_rounded_once(dicom, tmp_path, slope, intercept):
    stored = dicom.stored((Z, Y, X), "i2", -32768, 32767)
    dicom.series(tmp_path, stored, rescale=(slope, intercept))
    assert np.array_equal(read(tmp_path).array, (stored * np.float64(slope) + intercept).astype("f4"))


def test_every_slice_has_its_own_rescale(dicom, tmp_path):
    def change(data, z):
        data.RescaleSlope = f"{0.25 * (z + 1):g}"

    stored = dicom.stored((Z, Y, X), "u2", 0, 30000)
    dicom.series(tmp_path, stored, modality="PT", rescale=(1, 0), change=change)
    image = read(tmp_path)
    assert np.array_equal(image.array, stored * 0.25 * np.arange(1, Z + 1, dtype="f4")[:, None, None])
    assert len(image.meta["rescale"]) == Z


def test_magnetic_resonance_without_rescale_is_as_stored(dicom, tmp_path):
    stored = dicom.stored((Z, Y, X), "u2", 0, 4095)
    dicom.series(tmp_path, stored, modality="MR", rescale=None)
    image = read(tmp_path)
    assert np.array_equal(image.array, stored) and image.units == "" and image.warnings == []


def test_computed_tomography_without_rescale_is_told(dicom, tmp_path):
    dicom.series(tmp_path / "bare", dicom.stored((Z, Y, X)), rescale=None)
    image = read(tmp_path / "bare")
    assert image.units == "" and "without rescale" in image.warnings[0]
    dicom.series(tmp_path / "scaled", dicom.stored((Z, Y, X)))
    assert read(tmp_path / "scaled").units == "HU"


def test_monochrome1_is_inverted_except_where_values_are_measured(dicom, tmp_path):
    stored = dicom.stored((Z, Y, X), "u2", 0, 4095)
    dicom.series(tmp_path / "mr", stored, modality="MR", rescale=None, bits=12, photometric="MONOCHROME1")
    image = read(tmp_path / "mr")
    assert np.array_equal(image.array, 4095.0 - stored) and "MONOCHROME1" in image.warnings[0]
    dicom.series(tmp_path / "ct", stored, bits=12, photometric="MONOCHROME1")
    image = read(tmp_path / "ct")
    assert np.array_equal(image.array, stored - 1024.0) and image.warnings == []


def test_the_padding_value_is_noted_in_physical_units(dicom, tmp_path):
    def change(data, z):
        data.add_new(0x00280120, "US", 65536 - 2000)  # what signed pixels mean by it is -2000

    dicom.series(tmp_path, dicom.stored((Z, Y, X)), change=change)
    assert read(tmp_path).meta["padding_value"] == -3024


@pytest.mark.parametrize("syntax", [RLE, J2K, JPEG_LS])
@pytest.mark.parametrize("dtype", ["i2", "u2", "u1"])
def test_compressed_series_are_those_that_were_compressed(dicom, tmp_path, syntax, dtype):
    if syntax == JPEG_LS:
        pytest.importorskip("jpeg_ls")
    stored = dicom.stored((Z, 37, 41), dtype, 0 if dtype[0] == "u" else -900, 250)
    dicom.series(tmp_path, stored, compress=syntax)
    image = read(tmp_path)
    assert np.array_equal(image.array, stored - 1024.0)
    assert image.meta["transfer_syntax"] == syntax and image.warnings == []


def test_implicit_deflated_and_big_endian_data_hold_the_same_values(dicom, tmp_path):
    from pydicom import dcmwrite
    from pydicom.uid import ExplicitVRBigEndian

    stored = dicom.stored((Z, Y, X))

    def swapped(data, z):
        data.PixelData = stored[z].astype(">i2").tobytes()

    expected = stored - 1024.0
    for name, syntax in (("implicit", dicom.IMPLICIT), ("deflated", DEFLATED)):
        dicom.series(tmp_path / name, stored, syntax=syntax)
        assert np.array_equal(read(tmp_path / name).array, expected), name
    from pydicom import dcmread

    for path in dicom.series(tmp_path / "big", stored, change=swapped):
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dcmwrite(path, data, implicit_vr=False, little_endian=False)
    assert read_header(path).order == ">"
    assert np.array_equal(read(tmp_path / "big").array, expected)


def test_float_pixels_are_values(dicom, tmp_path):
    values = np.random.default_rng(0).normal(size=(Z, Y, X)).astype("f4")

    def change(data, z):
        del data.PixelData
        data.FloatPixelData = values[z].tobytes()

    dicom.series(tmp_path, dicom.stored((Z, Y, X)), modality="MR", rescale=None, change=change)
    assert np.array_equal(read(tmp_path).array, values)


def test_many_slices_are_read_by_threads_to_the_same_values(dicom, tmp_path):
    stored = dicom.stored((40, Y, X))
    dicom.series(tmp_path, stored)
    assert np.array_equal(read(tmp_path).array, stored - 1024.0)


@pytest.mark.parametrize("compress", [None, RLE, J2K])
def test_enhanced_frames_have_their_own_places_and_scales(dicom, tmp_path, compress):
    stored = dicom.stored((Z, 37, 41), "u2", 0, 4000)
    orientation = dicom.oblique()
    positions = np.array([5.0, -6, 7]) + np.arange(Z)[:, None] * 2.5 * dicom.normal(orientation)
    order = [3, 0, 4, 1, 2]
    dicom.enhanced(
        tmp_path / "e.dcm",
        stored[order],
        positions[order],
        orientation=orientation,
        rescale=lambda i: (0.5 * (order[i] + 1), order[i]),
        compress=compress,
    )
    image = read(tmp_path)
    z = np.arange(Z)[:, None, None]
    assert np.array_equal(image.array, (stored * 0.5 * (z + 1) + z).astype("f4"))
    assert image.meta["frame_numbers"] == [order.index(i) + 1 for i in range(Z)]
    assert image.affine[:3, 3] == pytest.approx(positions[0]) and image.spacing == pytest.approx([2.5, 0.75, 0.5])
    assert len(image.files) == 1


def test_truncated_pixel_data_are_refused_naming_the_file(dicom, tmp_path):
    paths = dicom.series(tmp_path, dicom.stored((Z, Y, X)))
    data = paths[3].read_bytes()
    paths[3].write_bytes(data[:-10])
    with pytest.raises(DataError, match=r"need 84 bytes of pixel data, 74 are there: truncated") as error:
        read(tmp_path)
    assert str(paths[3]) in str(error.value)


@pytest.mark.parametrize("compress", [RLE, J2K])
def test_damaged_compressed_data_are_refused_naming_the_file(dicom, tmp_path, compress):
    paths = dicom.series(tmp_path, dicom.stored((Z, 64, 65)), compress=compress)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 3])
    with pytest.raises(DataError, match=paths[1].name) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compress", [None, RLE, DEFLATED])
def test_a_header_that_claims_more_than_the_file_holds_is_refused_at_once(dicom, tmp_path, compress):
    (path,) = dicom.series(
        tmp_path, dicom.stored((1, Y, X)), compress=RLE if compress == RLE else None,
        syntax=DEFLATED if compress == DEFLATED else dicom.EXPLICIT,
    )  # fmt: skip
    if compress == DEFLATED:
        from pydicom import dcmread

        data = dcmread(path)
        data.Rows = data.Columns = 65535
        data.save_as(path)
    else:
        raw = path.read_bytes()
        for tag in (b"\x28\0\x10\0", b"\x28\0\x11\0"):
            at = raw.index(tag + b"US")
            raw = raw[: at + 8] + struct.pack("<H", 65535) + raw[at + 10 :]
        path.write_bytes(raw)
    start = time.perf_counter()
    with pytest.raises(DataError, match="65535 rows x 65535 columns") as error:
        read(tmp_path)
    assert time.perf_counter() - start < 5 and path.name in str(error.value)


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("BitsAllocated", 12, "BitsAllocated is 12, expected 8, 16 or 32"),
        ("BitsStored", 17, "BitsStored 17, HighBit 15 do not fit"),
        ("BitsStored", 0, "BitsStored 0"),
        ("HighBit", 3, "HighBit 3"),
        ("PixelRepresentation", 2, "PixelRepresentation is 2"),
        ("PhotometricInterpretation", "PALETTE COLOR", "expected MONOCHROME1 or MONOCHROME2"),
        ("Rows", 0, "Rows x Columns is 0 x 7"),
    ],
)
def test_pixels_that_cannot_be_are_refused_naming_file_and_key(dicom, tmp_path, keyword, value, message):
    (path,) = dicom.series(tmp_path, dicom.stored((1, Y, X)), change=lambda data, z: setattr(data, keyword, value))
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_a_missing_decoder_names_the_extra(dicom, tmp_path, monkeypatch):
    from pydicom.pixels.decoders import JPEG2000LosslessDecoder

    dicom.series(tmp_path, dicom.stored((1, 37, 41)), compress=J2K)
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    with pytest.raises(MissingError, match=r"JPEG 2000.*gen-imaging\[dicom\]"):
        read(tmp_path)


def test_an_unknown_transfer_syntax_is_refused(dicom, tmp_path):
    (path,) = dicom.series(tmp_path, dicom.stored((1, 37, 41)), compress=RLE)
    path.write_bytes(path.read_bytes().replace(RLE.encode() + b"\0", b"1.2.840.10008.1.2.77")[:])
    with pytest.raises(DataError, match=path.name):
        read(tmp_path)


def test_pixels_lie_as_pydicom_says(sample_data):
    from pydicom import dcmread

    path = sample_data / "torchio_dcm" / "IMG0003.dcm"
    header, data = read_header(path), dcmread(path)
    how = how_stored(header)
    assert (how.bits, how.signed) == (data.BitsStored, bool(data.PixelRepresentation))
    _, _, offset, length = header.pixels
    assert path.read_bytes()[offset : offset + length] == data.PixelData


def test_bits_that_are_not_stored_are_ignored_in_run_lengths_too(dicom, tmp_path):
    from pydicom import dcmread

    meant = dicom.stored((Z, 37, 41), "i2", -2048, 2047)
    rubbish = (meant & 0x0FFF | 0xA000 - 0x10000).astype("i2")
    for path in dicom.series(tmp_path, rubbish, compress=RLE):
        data = dcmread(path)
        data.BitsStored, data.HighBit = 12, 11
        data.save_as(path)
    assert np.array_equal(read(tmp_path).array, meant - 1024.0)


def test_loss_is_told(dicom, tmp_path):
    def change(data, z):
        data.LossyImageCompression = "01"

    dicom.series(tmp_path, dicom.stored((Z, Y, X)), change=change)
    assert read(tmp_path).warnings == ["pixel data were compressed with loss"]


def test_encapsulated_data_under_a_plain_syntax_are_refused(dicom, tmp_path):
    (path,) = dicom.series(tmp_path, dicom.stored((1, 37, 41)), compress=RLE)
    raw = path.read_bytes()
    at = raw.index(b"\2\0\x10\0UI")
    end = at + 8 + raw[at + 6]
    path.write_bytes(raw[: at + 8] + b"1.2.840.10008.1.2.1\0"[: end - at - 8].ljust(end - at - 8, b"\0") + raw[end:])
    with pytest.raises(DataError, match=path.name) as error:
        read(tmp_path)
    assert "pixel data are encapsulated" in str(error.value)


def test_a_run_that_overshoots_its_plane_is_refused_without_a_panic(dicom, tmp_path, capfd):
    (path,) = dicom.series(tmp_path, np.zeros((1, 37, 41), "i2"), compress=RLE)
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"\xd8\0")  # 41 times zero
    raw[at : at + 2] = b"\x7f\0"  # now 128 values that are not there
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=path.name):
        read(tmp_path)
    assert capfd.readouterr().err == ""
