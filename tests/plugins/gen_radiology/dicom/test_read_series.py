"""Series of a folder and their images: the real ones against truth.json, synthetic ones against what was written."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from gen_core.errors import DataError, MissingError
from gen_radiology.dicom.find_series import find_objects, find_series
from gen_radiology.dicom.read_series import read_series
from gen_radiology.dicom.series import split_times

Z, Y, X = 5, 6, 7


def read(folder, geometry="refuse"):
    (series,) = find_series(folder)
    return read_series(series, geometry)


@pytest.mark.parametrize(
    ("folder", "keys"),
    [
        ("sts_002/CT", ("sts_002", "CT", "image")),
        ("sts_002/MR_T1", ("sts_002", "MR_T1", "image")),
        ("lidc3", ("lidc3", "ct")),
        ("dcmqi_seg", ("dcmqi_seg", "ct_3slice")),
        ("torchio_dcm", ("torchio_dcm",)),
    ],
)
def test_real_series_have_the_values_and_the_place_of_the_truth(sample_data, folder, keys):
    truth = json.loads((sample_data / "truth.json").read_text())
    for key in keys:
        truth = truth[key]
    (series,) = find_series(sample_data / folder)
    (image,) = read_series(series)
    assert hashlib.sha256(image.array.astype("<f4").tobytes()).hexdigest() == truth["sha_f32"]
    assert image.array.shape == series.shape == tuple(truth["shape"])
    gap, (dy, dx) = truth["slice_gap_mm"]["median"], truth["pixel_spacing_row_col_mm"]
    assert image.spacing == pytest.approx([gap, dy, dx], abs=1e-4)
    assert image.origin == pytest.approx(truth["origin_first_slice_xyz"], abs=1e-4)
    directions = np.array([truth["normal"], truth["col_dir"], truth["row_dir"]]).T
    assert image.directions == pytest.approx(directions, abs=1e-4)
    assert np.array_equal(series.affine, image.affine)
    assert image.array.min() == truth["min"] and image.array.max() == truth["max"]
    assert image.array.mean(dtype=np.float64) == pytest.approx(truth["mean"], abs=1e-4)
    assert image.modality == truth["modality"] and image.units == {"CT": "HU", "MR": ""}[image.modality]
    assert image.warnings == [] and len(image.slice_uids) == truth["shape"][0] == len(image.files)


def four_d(dicom, folder, change, times=3, modality="MR"):
    """Volumes at the same places; change(data, z, t) tells them apart."""
    volumes = [dicom.stored((Z, Y, X), seed=t) for t in range(times)]
    for t, stored in enumerate(volumes):
        names = [f"{z}-{(7 * t) % 4}" for z in range(Z)]
        dicom.series(
            folder, stored, modality, rescale=None, names=names, change=lambda data, z, t=t: change(data, z, t)
        )
    return volumes


def temporal(data, z, t):
    data.TemporalPositionIdentifier = t + 1


def cardiac(data, z, t):
    data.TriggerTime = f"{40 * t + 0.5 * z:g}"  # another phase in every slice


def echoes(data, z, t):
    data.EchoTime, data.EchoNumbers = f"{4.6 * (t + 1):g}", t + 1


def weighting(data, z, t):
    data.DiffusionBValue = 500.0 * t


def weighting_of_siemens(data, z, t):
    data.Manufacturer = "SIEMENS"
    data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    data.add_new(0x0019100C, "IS", str(500 * t))


def kinds(data, z, t):
    data.ImageType = ["ORIGINAL", "PRIMARY", ["I", "M", "P"][t]]


def clock(data, z, t):
    data.AcquisitionTime = f"1200{10 * t + z:02d}.5"


@pytest.mark.parametrize(
    ("change", "suffixes"),
    [
        (temporal, ["t1", "t2", "t3"]),
        (cardiac, ["t1", "t2", "t3"]),
        (echoes, ["te4.6", "te9.2", "te13.8"]),
        (weighting, ["b0", "b500", "b1000"]),
        (weighting_of_siemens, ["b0", "b500", "b1000"]),
        (kinds, ["type1", "type2", "type3"]),
        (clock, ["t1", "t2", "t3"]),
    ],
)
def test_volumes_at_the_same_places_become_images_and_are_not_stacked(dicom, tmp_path, change, suffixes):
    volumes = four_d(dicom, tmp_path, change)
    (series,) = find_series(tmp_path)
    images = read_series(series)
    assert series.shape == (Z, Y, X) and series.images == 3
    assert [image.id for image in images] == [f"{series.id}-{suffix}" for suffix in suffixes]
    for image, stored in zip(images, volumes):
        assert np.array_equal(image.array, stored)
        assert np.array_equal(image.affine, series.affine)
        assert "of 3 at the same places, told apart by" in image.warnings[0] and image.meta["split"]


def test_directions_within_a_weighting_are_parted_too(dicom, tmp_path):
    def change(data, z, t):
        data.DiffusionBValue = 800.0 if t else 0.0
        if t:
            data.DiffusionGradientOrientation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]][t - 1]

    volumes = four_d(dicom, tmp_path, change, times=4)
    images = read(tmp_path)
    assert len(images) == 4 and len({image.id for image in images}) == 4
    got = {image.array.tobytes() for image in images}
    assert got == {stored.astype("f4").tobytes() for stored in volumes}
    assert np.array_equal(images[0].array, volumes[0])


def test_enhanced_times_are_parted(dicom, tmp_path):
    stored = dicom.stored((6, Y, X), "u2", 0, 900)
    positions = [(0, 0, 2.0 * (i // 2)) for i in range(6)]

    def frame(groups, i, item):
        groups.FrameContentSequence = item(TemporalPositionIndex=i % 2 + 1, StackID="1")

    dicom.enhanced(tmp_path / "e.dcm", stored, positions, frame=frame)
    first, second = read(tmp_path)
    assert np.array_equal(first.array, stored[::2]) and np.array_equal(second.array, stored[1::2])
    assert first.meta["frame_numbers"] == [1, 3, 5] and second.meta["frame_numbers"] == [2, 4, 6]


def test_acquisitions_one_above_the_other_are_one_stack(dicom, tmp_path):
    def change(data, z):
        data.AcquisitionNumber, data.TemporalPositionIdentifier = z // 3, 1
        data.AcquisitionTime = f"12000{z}"

    stored = dicom.stored((Z, Y, X))
    dicom.series(tmp_path, stored, change=change)
    (image,) = read(tmp_path)
    assert np.array_equal(image.array, stored - 1024.0)


def test_equal_duplicates_are_dropped_with_a_note(dicom, tmp_path):
    stored = dicom.stored((Z, Y, X))
    paths = dicom.series(tmp_path, stored)
    (tmp_path / "copy").mkdir()
    for path in paths[1:3]:
        shutil.copy(path, tmp_path / "copy" / path.name)
    (image,) = read(tmp_path)
    assert np.array_equal(image.array, stored - 1024.0) and len(image.files) == Z
    assert "2 duplicate slices with equal pixels dropped: 00" in image.warnings[0]


@pytest.mark.parametrize("geometry", ["refuse", "warn", "resample"])
def test_different_slices_at_one_position_are_refused_under_every_policy(dicom, tmp_path, geometry):
    dicom.series(tmp_path, dicom.stored((Z, Y, X)))
    dicom.series(tmp_path / "b", dicom.stored((1, Y, X), seed=9), origin=(-30.5, 12.25, 105))
    with pytest.raises(
        DataError, match=r"2 different slices at position \(-30.5, 12.25, 105\) mm \(.*001.dcm"
    ) as error:
        read(tmp_path, geometry)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_time_without_a_slice_has_a_gap(dicom, tmp_path):
    four_d(dicom, tmp_path, temporal, times=2)
    (tmp_path / "2-3").unlink()  # z = 2 of the second time
    with pytest.raises(DataError, match="1 slices are missing of a gap of 2.5 mm, at 105 mm"):
        read(tmp_path)
    assert [image.array.shape[0] for image in read(tmp_path, "warn")] == [5, 4]


def test_what_cannot_be_told_apart_stays_together(dicom, tmp_path):
    four_d(dicom, tmp_path, lambda data, z, t: None)
    (series,) = find_series(tmp_path)
    assert [len(frames) for _, frames in split_times(series.frames)] == [3 * Z]
    with pytest.raises(DataError, match="5 such positions, and no header key tells them apart"):
        read_series(series)


def test_an_unknown_policy_and_a_path_that_is_not_there_are_refused(dicom, tmp_path):
    dicom.series(tmp_path, dicom.stored((Z, Y, X)))
    with pytest.raises(DataError, match="geometry is 'ignore', expected one of refuse, warn, resample"):
        read(tmp_path, "ignore")
    with pytest.raises(DataError, match="absent: no such file or folder"):
        find_objects(tmp_path / "absent")


def test_without_pydicom_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingError, match=r"pip install 'gen-imaging\[dicom\]'"):
        find_series(tmp_path)


def test_damage_of_any_kind_ends_in_one_line_that_names_the_file(dicom, tmp_path):
    """Random changes of the bytes of every kind of file; 13000 of them were tried while this was written."""
    stored = dicom.stored((3, 37, 41))
    frames = [(0, 0, i) for i in range(3)]
    rle = "1.2.840.10008.1.2.5"
    same = {"uid": "1.2.3.5"}  # a drawn one is of any length, and all that follows would be other damage each time
    kinds = [
        dicom.series(tmp_path / "a", stored[:1], **same)[0],
        dicom.series(tmp_path / "b", stored[:1], syntax=dicom.IMPLICIT, **same)[0],
        dicom.series(tmp_path / "c", stored[:1], compress=rle, **same)[0],
        dicom.series(tmp_path / "d", stored[:1], compress="1.2.840.10008.1.2.4.90", **same)[0],
        dicom.series(tmp_path / "e", stored[:1], syntax="1.2.840.10008.1.2.1.99", **same)[0],
        dicom.enhanced(tmp_path / "f" / "x.dcm", stored, frames, compress=rle, **same),
        dicom.enhanced(tmp_path / "g" / "x.dcm", stored, frames, rescale=lambda i: (2, i), **same),
    ]
    rng = np.random.default_rng(7)
    refused = read = 0
    path = tmp_path / "x.dcm"
    for trial in range(350):
        data = bytearray(kinds[trial % len(kinds)].read_bytes())
        for at in rng.integers(0, rng.choice([len(data), min(len(data), 1400)]), rng.choice([1, 4, 16])):
            change = rng.integers(4)
            if change == 0:
                data[at] = rng.integers(256)
            elif change == 1:
                data[at : at + 4] = b"\xff\xff\xff\xff"
            elif change == 2:
                del data[at : at + int(rng.integers(1, 9))]
            else:
                data[at:at] = rng.bytes(3)
        path.write_bytes(bytes(data))
        try:
            found = find_objects(path)
            refused += len(found.left_out)
            for series in found.series:
                assert all(np.isfinite(image.affine).all() for image in read_series(series, "warn"))
                read += 1
        except DataError as error:
            assert "x.dcm" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 150 and read > 60
