"""Sorting, affines, gaps, tilt: against SimpleITK, closed forms and linear ramps, which linear interpolation keeps."""

from __future__ import annotations

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series

Z, Y, X = 5, 6, 7


def read(folder, geometry="refuse"):
    (series,) = find_series(folder)
    (image,) = read_series(series, geometry)
    return image


def simpleitk(folder):
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "oblique"])
def test_a_series_lies_where_simpleitk_puts_it(dicom, tmp_path, plane):
    orientation = dicom.oblique() if plane == "oblique" else getattr(dicom, plane.upper())
    stored = dicom.stored((Z, Y, X))
    dicom.series(tmp_path, stored, orientation=orientation)
    image, peer = read(tmp_path), simpleitk(tmp_path)
    import SimpleITK as sitk

    for index in np.ndindex(2, 2, 2):
        z, y, x = np.array(index) * (Z - 1, Y - 1, X - 1)
        ours = image.affine @ (z, y, x, 1)
        assert ours[:3] == pytest.approx(peer.TransformIndexToPhysicalPoint((int(x), int(y), int(z))), abs=1e-4)
    assert np.array_equal(image.array, sitk.GetArrayFromImage(peer))
    assert np.array_equal(image.array, stored - 1024.0)
    assert image.spacing == pytest.approx([2.5, 0.75, 0.5], abs=1e-6)
    assert np.linalg.det(image.directions[:, ::-1]) == pytest.approx(1), "x, y, z must be right-handed"


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers(dicom, tmp_path):
    stored = dicom.stored((Z, Y, X))
    dicom.series(tmp_path, stored, names=["c", "a.dcm", "e.IMA", "b", "d"])
    image = read(tmp_path)
    assert np.array_equal(image.array, stored - 1024.0)
    assert [path.name for path in image.files] == ["c", "a.dcm", "e.IMA", "b", "d"]
    assert len(set(image.slice_uids)) == Z


def test_the_shape_and_the_affine_are_known_from_headers(dicom, tmp_path):
    dicom.series(tmp_path, dicom.stored((Z, Y, X)), orientation=dicom.oblique())
    (series,) = find_series(tmp_path)
    assert series.shape == (Z, Y, X)
    assert np.array_equal(series.affine, read(tmp_path).affine)


def test_one_slice_takes_its_thickness(dicom, tmp_path):
    dicom.series(tmp_path, dicom.stored((1, Y, X)), spacing=(3.5, 0.75, 0.5))
    assert read(tmp_path).spacing[0] == pytest.approx(3.5)
    dicom.series(tmp_path / "bare", dicom.stored((1, Y, X)), change=lambda d, z: delattr(d, "SliceThickness"))
    image = read(tmp_path / "bare")
    assert image.spacing[0] == 1 and "1 mm assumed" in image.warnings[0]


def ramp(positions, shape=(Y, X), orientation=(1, 0, 0, 0, 1, 0), spacing=(0.75, 0.5), g=(4, 8, 12)):
    """Whole values that are linear in LPS mm, (z, y, x), at the pixels of slices."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    points = np.asarray(positions)[:, None, None] + y[..., None] * spacing[0] * col + x[..., None] * spacing[1] * row
    return np.rint(points @ np.array(g)).astype("i2")


def values_of(image, g=(4, 8, 12)):
    """The same ramp on the grid of an image."""
    index = np.stack(np.meshgrid(*map(np.arange, image.array.shape), indexing="ij"), -1)
    return (index @ image.affine[:3, :3].T + image.affine[:3, 3]) @ np.array(g)


def along_z(values):
    return np.stack([np.zeros(len(values)), np.zeros(len(values)), values], 1)


def test_missing_slices_are_named_refused_stacked_or_filled(dicom, tmp_path):
    positions = along_z([0, 2.5, 5, 12.5, 15])
    dicom.series(tmp_path, ramp(positions), positions=positions, rescale=(1, 0))
    with pytest.raises(DataError, match=r"2 slices are missing of a gap of 2.5 mm, at 7.5, 10 mm") as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value) and "resample" in str(error.value) and "\n" not in str(error.value)
    stacked = read(tmp_path, "warn")
    assert stacked.array.shape == (Z, Y, X) and "missing" in stacked.warnings[0]
    assert np.array_equal(stacked.array, ramp(positions))
    filled = read(tmp_path, "resample")
    assert filled.array.shape == (7, Y, X) and filled.spacing[0] == pytest.approx(2.5)
    assert np.abs(filled.array - values_of(filled)).max() < 1e-3
    assert "missing" in filled.warnings[0] and "7 slices" in filled.warnings[0] and filled.slice_uids == ()


def test_uneven_gaps_are_named_refused_stacked_or_evened(dicom, tmp_path):
    positions = along_z([0, 2.5, 5, 8.75, 11.25, 13.75])
    dicom.series(tmp_path, ramp(positions), positions=positions, rescale=(1, 0))
    with pytest.raises(DataError, match=r"uneven, 2.5 to 3.75 mm, before 8.75 mm"):
        read(tmp_path)
    assert read(tmp_path, "warn").array.shape == (6, Y, X)
    image = read(tmp_path, "resample")
    gaps = 13.75 / np.rint(13.75 / 2.5)
    assert image.array.shape[0] == round(13.75 / 2.5) + 1 and image.spacing[0] == pytest.approx(gaps)
    assert np.abs(image.array - values_of(image)).max() < 1e-3
    assert image.affine[:3, 3] == pytest.approx(positions[0])
    assert (image.affine @ (len(image.array) - 1, 0, 0, 1))[:3] == pytest.approx(positions[-1])


def test_rounded_positions_are_even(dicom, tmp_path):
    positions = along_z(np.round(np.arange(9) * 1.2345678, 2))
    dicom.series(tmp_path, dicom.stored((9, Y, X)), positions=positions)
    image = read(tmp_path)
    assert image.warnings == [] and image.spacing[0] == pytest.approx(1.2345678, abs=1e-3)


@pytest.mark.parametrize("plane", ["axial", "oblique"])
def test_a_tilted_stack_is_refused_sheared_or_set_upright(dicom, tmp_path, plane):
    orientation = np.array(dicom.oblique() if plane == "oblique" else dicom.AXIAL)
    normal, column = dicom.normal(orientation), orientation[3:]
    step = 2.0 * normal + 2.0 * np.tan(np.radians(15)) * column
    positions = np.array([3.0, -4.0, 5.0]) + np.arange(Z)[:, None] * step
    g = 40 * column + 4 * normal
    stored = ramp(positions, (30, X), orientation, g=g)
    dicom.series(tmp_path, stored, positions=positions, orientation=orientation, rescale=(1, 0))
    with pytest.raises(DataError, match=r"tilted by 15\.00 degrees: slices shift by 0\.5359 mm"):
        read(tmp_path)
    sheared = read(tmp_path, "warn")
    assert np.array_equal(sheared.array, stored) and "tilted" in sheared.warnings[0]
    assert sheared.affine[:3, 0] == pytest.approx(step, abs=1e-6)
    assert np.abs(sheared.array - values_of(sheared, g)).max() < 0.51
    upright = read(tmp_path, "resample")
    assert upright.directions.T @ upright.directions == pytest.approx(np.eye(3), abs=1e-6)
    assert upright.array.shape == (Z, 33, X), "the canvas grows by the shift of 2.14 mm / 0.75 mm"
    inside = np.abs(upright.array - values_of(upright, g)) < 1.01
    assert inside[:, 4:28].all()
    assert np.array_equal(upright.array[0, :29], stored[0, :29]), "the first slice stays where it is"
    assert (upright.array[0, 31:] == -1000).all(), "air beyond the slice"


def test_slices_off_their_line_are_refused_or_moved_back(dicom, tmp_path):
    positions = along_z(np.arange(Z) * 2.5)
    positions[2, 0] += 0.5  # one pixel
    stored = ramp(positions, (Y, 12), g=(8, 0, 4))
    dicom.series(tmp_path, stored, positions=positions, rescale=(1, 0))
    with pytest.raises(DataError, match="do not lie on one line: 1 pixels off at 5 mm"):
        read(tmp_path)
    image = read(tmp_path, "resample")
    assert image.array.shape == (Z, Y, 13)
    assert np.allclose(image.array[:, :, 1:12], values_of(image, (8, 0, 4))[:, :, 1:12])


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("PixelSpacing", ["0", "0.5"], "PixelSpacing is 0, 0.5, expected positive mm"),
        ("PixelSpacing", ["-1", "0.5"], "PixelSpacing is -1, 0.5"),
        ("PixelSpacing", ["nan", "0.5"], "PixelSpacing is nan, 0.5, expected finite"),
        ("PixelSpacing", None, "PixelSpacing is missing"),
        ("PixelSpacing", ["1"], "PixelSpacing has 1 values, expected 2"),
        ("ImagePositionPatient", ["nan", "0", "0"], "ImagePositionPatient is nan, 0, 0"),
        ("ImagePositionPatient", ["inf", "0", "0"], "ImagePositionPatient is inf, 0, 0"),
        ("ImagePositionPatient", None, "ImagePositionPatient is missing"),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"], "expected two orthogonal unit vectors"),
        ("ImageOrientationPatient", ["0"] * 6, "expected two orthogonal unit vectors"),
        ("RescaleSlope", "0", "no scale"),
        ("RescaleSlope", "nan", "no scale"),
        ("RescaleSlope", "steep", "RescaleSlope is 'steep"),
    ],
)
def test_a_place_that_cannot_be_is_refused_naming_file_and_key(dicom, tmp_path, keyword, value, message):
    def change(data, z):
        if z == 2:
            if value is None:
                delattr(data, keyword)
            else:
                data[keyword]._value = value  # past pydicom's own checks

    paths = dicom.series(tmp_path, dicom.stored((Z, Y, X)), change=change)
    (series,) = find_series(tmp_path)
    with pytest.raises(DataError) as error:
        read_series(series)
    assert str(paths[2]) in str(error.value) and message in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DataError, match=paths[2].name):
        _ = series.shape


def test_directions_of_three_digits_are_taken_for_unit_vectors(dicom, tmp_path):
    orientation = np.round(dicom.oblique(), 3)
    positions = np.arange(Z)[:, None] * 2.0 * dicom.normal(orientation)
    dicom.series(tmp_path, dicom.stored((Z, Y, X)), orientation=orientation, positions=positions)
    image = read(tmp_path)
    assert image.spacing[1:] == pytest.approx([0.75, 0.5], abs=1e-9) and image.warnings == []
