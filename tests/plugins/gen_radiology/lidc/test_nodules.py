"""Nodules of several readers: every count of a real reading, and cases whose answer is plain to see."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gen_core.errors import DataError, RecipeError
from gen_radiology.dicom.find_series import find_series
from gen_radiology.dicom.read_series import read_series
from gen_radiology.lidc.nodule_masks import nodule_masks
from gen_radiology.lidc.nodules import find_nodules, majority
from gen_radiology.lidc.readings import Contour, Outlined, Reading, Readings, read_readings
from gen_radiology.volumes.image import Image

DATA = Path(__file__).parents[3] / "data"
TRUTH = json.loads((DATA / "truth.json").read_text())["lidc3"]
SPACING = (2.5, 0.820312, 0.820312)


def ct(shape, z0, step=2.5, uids=(), flip=(1, 1)):
    """An axial stack of zeros whose first slice lies at z0 mm."""
    affine = np.array([[0, 0, 0.8 * flip[1], 1], [0, 0.8 * flip[0], 0, 2], [step, 0, 0, z0], [0, 0, 0, 1]], float)
    return Image(np.zeros(shape, np.float32), affine, "ct", "P", "CT", "HU", slice_uids=tuple(uids))


@pytest.fixture(scope="module")
def real():
    return read_readings(DATA / "lidc3" / "072.xml")


@pytest.fixture(scope="module")
def given_slices():
    (series,) = find_series(DATA / "lidc3" / "dicom")
    (image,) = read_series(series)
    return image


def square(reader, x, y, side, zs, ratings=None, name="N", inclusion=True):
    """An outline that encloses side x side pixels from (x, y) on each slice z."""
    return Outlined(reader, name, tuple(ring(x, y, side, z, inclusion) for z in zs), ratings or {})


def ring(x, y, side, z, inclusion=True, uid=""):
    n = side + 1
    i, o = np.arange(n), np.zeros(n, int)
    path = np.concatenate([np.c_[i, o], np.c_[o + n, i], np.c_[n - i, o + n], np.c_[o, n - i]])
    return Contour(z, (path + (x - 1, y - 1)).astype(np.int32), inclusion, uid)


def readings(*by_reader):
    return Readings(Path("a.xml"), "CT", readings=[Reading(i, list(nodules)) for i, nodules in enumerate(by_reader)])


def test_four_nodules_are_found_by_the_readers_who_outlined_them(real):
    nodules = find_nodules(real, SPACING)
    clusters = TRUTH["xml"][0]["clusters_full"]
    assert [list(n.outlines) for n in nodules] == [c["readers"] for c in clusters]
    assert [list(n.ratings["malignancy"].given) for n in nodules] == [c["malignancy"] for c in clusters]
    assert [n.malignancy for n in nodules] == [5, 4, 4, 2]
    assert [n.kind for n in nodules] == ["solid", "solid", "solid", "ground-glass"]
    assert all(n.readers == 4 for n in nodules)


@pytest.mark.parametrize(("outline", "key"), [("exclude", "interior"), ("include", "with_edge")])
def test_voxels_of_each_reader_and_of_the_consensus_equal_the_independent_counts(real, given_slices, outline, key):
    nodules = find_nodules(real, given_slices.spacing)
    cluster = TRUTH["xml"][0]["clusters_on_given_slices"][0]

    def count(**options):
        return int(nodule_masks(nodules, given_slices, outline=outline, **options).masks["nodule"].sum())

    assert [count(reader=i) for i in range(4)] == cluster[f"{key}_voxels"]
    assert count() == cluster["consensus_50pct_of_annotators"][key]
    assert count(level=0.01) == cluster["union"][key]
    assert count(level=1.0) < count(level=0.75) < count(level=0.5)


def test_the_consensus_lies_where_it_was_found_independently_and_on_those_values(real, given_slices):
    found = nodule_masks(find_nodules(real), given_slices)
    cluster = TRUTH["xml"][0]["clusters_on_given_slices"][0]
    told = found.meta["nodules"]["nodule-1"]
    assert told["centre_zyx"] == pytest.approx(cluster["centroid_zyx_consensus"], abs=0.006)
    hu = given_slices.array[found.masks["nodule"]].mean()
    assert hu == pytest.approx(cluster["hu_mean_consensus_interior"], abs=0.01)
    assert told["voxels"] == 3241 and told["votes_needed"] == 2 and told["readers"] == [1, 2, 3, 4]


def test_outlines_on_slices_that_are_not_there_are_reported(real, given_slices):
    notes = nodule_masks(find_nodules(real), given_slices).notes
    missing = [int(note.split()[1]) for note in notes if "not in" in note]
    assert {note.rsplit(" ", 1)[1] for note in notes} == {given_slices.id}
    assert [note.split(":")[0] for note in notes] == ["nodule-2", "nodule-3", "nodule-4"]
    assert sum(missing) == TRUTH["xml"][0]["rois_missing_on_given_slices"]


@pytest.mark.parametrize(("outline", "key"), [("exclude", "interior"), ("include", "with_edge")])
def test_all_four_nodules_have_their_voxels_on_a_whole_scan(real, outline, key):
    nodules = find_nodules(real)
    found = nodule_masks(nodules, ct((40, 512, 512), -226.5), outline=outline, by="nodule")
    clusters = TRUTH["xml"][0]["clusters_full"]
    assert [int(m.sum()) for m in found.masks.values()] == [c["consensus_2_of_4_readers"][key] for c in clusters]
    assert found.notes == ["nodule-4: no voxel has 2 of 4 votes (drawn by 1)"]


def test_a_chest_x_ray_reading_has_no_nodules_and_says_so():
    with pytest.raises(DataError, match=r"073.xml: is a chest X-ray reading"):
        find_nodules(read_readings(DATA / "lidc3" / "073.xml"))


def test_a_hole_takes_its_outline_along_unless_outlines_are_included():
    body = Outlined(0, "N", (ring(5, 5, 10, 0.0), ring(8, 8, 3, 0.0, inclusion=False)))
    nodules = find_nodules(readings([body]))
    image = ct((2, 24, 26), 0)
    assert nodule_masks(nodules, image).masks["nodule"].sum() == 10 * 10 - 5 * 5
    assert nodule_masks(nodules, image, outline="include").masks["nodule"].sum() == 12 * 12 - 3 * 3


def test_outlines_that_share_voxels_are_one_nodule_and_others_are_not():
    a = square(0, 10, 10, 8, [0, 2.5]), square(0, 40, 40, 8, [0])
    b = square(1, 12, 11, 8, [2.5]), square(1, 60, 10, 5, [10])
    nodules = find_nodules(readings(a, b, []))
    assert [list(n.outlines) for n in nodules] == [[0, 1], [0], [1]]
    assert nodules[0].readers == 3


def test_small_nodules_that_miss_each_other_are_joined_by_the_distance_of_their_centres():
    a, b, far = square(0, 10, 10, 4, [0]), square(1, 11, 11, 4, [2.5]), square(1, 30, 10, 4, [2.5])
    assert [list(n.outlines) for n in find_nodules(readings([a], [b, far]))] == [[0, 1], [1]]


def test_neighbours_drawn_by_both_readers_stay_two_nodules():
    a = square(0, 10, 10, 8, [0], name="left"), square(0, 16, 10, 8, [0], name="right")
    b = square(1, 11, 10, 8, [0], name="left"), square(1, 17, 10, 8, [0], name="right")
    nodules = find_nodules(readings(a, b))
    assert [[d.name for one in n.outlines.values() for d in one] for n in nodules] == [["left"] * 2, ["right"] * 2]


def test_pieces_of_one_reader_inside_of_what_another_drew_are_one_nodule_with_one_vote():
    pieces = square(0, 10, 10, 4, [0], {"texture": 1}), square(0, 16, 10, 9, [0], {"texture": 5})
    whole = square(1, 9, 9, 17, [0], {"texture": 5})
    (nodule,) = find_nodules(readings(pieces, [whole]))
    assert [len(one) for one in nodule.outlines.values()] == [2, 1]
    assert nodule.ratings["texture"].given == (5, 5)  # of the pieces the larger one speaks
    assert nodule_masks([nodule], ct((1, 40, 40), 0), level=1.0).masks["nodule"].sum() == 4 * 4 + 9 * 9


def test_exclusions_alone_make_a_nodule_without_voxels():
    drawn = [[square(i, 9, 9, 6, [0], inclusion=False)] for i in range(2)]
    nodules = find_nodules(readings(*drawn), SPACING)
    assert len(nodules) == 2 and nodules[0].diameter_mm == 0
    assert not nodule_masks(nodules, ct((1, 30, 30), 0)).masks["nodule"].any()


def test_the_order_of_readers_changes_no_group(real):
    turned = Readings(real.path, "CT", readings=[])
    for i, reading in enumerate(real.readings[::-1]):
        outlined = [Outlined(i, n.name, n.contours, n.ratings) for n in reading.outlined]
        turned.readings.append(Reading(i, outlined))
    there = sorted(sorted(len(one[0].contours) for one in n.outlines.values()) for n in find_nodules(real))
    back = sorted(sorted(len(one[0].contours) for one in n.outlines.values()) for n in find_nodules(turned))
    assert there == back


def test_readers_who_saw_nothing_vote_no():
    drawn = [[square(i, 10, 10, 6, [0])] for i in range(2)]
    image = ct((1, 30, 30), 0)
    for silent, level, voxels in ((0, 1.0, 36), (2, 0.5, 36), (2, 0.51, 0), (3, 0.4, 36), (3, 0.5, 0)):
        nodules = find_nodules(readings(*drawn, *[[]] * silent))
        assert nodule_masks(nodules, image, level=level).masks["nodule"].sum() == voxels


def test_a_third_of_three_readers_is_one_vote():
    (nodule,) = find_nodules(readings([square(0, 10, 10, 6, [0])], [], []))
    assert [nodule.votes_needed(level) for level in (0.01, 1 / 3, 0.34, 0.5, 2 / 3, 0.7, 1)] == [1, 1, 2, 2, 2, 3, 3]


def test_the_majority_rules_and_ties_go_to_the_value_near_the_mean_then_up():
    assert majority([5, 5, 3, 4]).value == 5 and majority([5, 5, 3, 4]).votes == 2
    assert majority([1, 1, 5, 5, 4]).value == 5  # mean 3.2: 5 is nearer
    assert majority([1, 1, 5, 5, 2]).value == 1  # mean 2.8
    assert majority([4, 5, 3, 2]).value == 4  # 3 and 4 are equally near to 3.5
    assert majority([6, 3, 3, 6], ordered=False).value == 6
    assert majority([2]).given == (2,)


def test_classes_come_from_the_texture_and_a_nodule_without_ratings_has_none():
    def kind(*textures):
        given = [[square(i, 9, 9, 6, [0], {"texture": t} if t else {})] for i, t in enumerate(textures)]
        (nodule,) = find_nodules(readings(*given))
        return nodule.kind

    assert [kind(t) for t in (1, 2, 3, 4, 5)] == ["ground-glass", "ground-glass", "part-solid", "solid", "solid"]
    assert kind(1, 2, 5, 3) == "ground-glass"  # by class, so 1 and 2 count together
    assert kind(1, 5) == "solid"
    assert kind(None) == ""
    (nodule,) = find_nodules(readings([square(0, 9, 9, 6, [0])]))
    assert nodule.malignancy is None


def test_the_diameter_is_that_of_the_disc_that_was_drawn():
    angle = np.linspace(0, 2 * np.pi, 400)
    points = np.rint(np.c_[30 + 10.5 * np.cos(angle), 28 + 10.5 * np.sin(angle)]).astype(np.int32)
    disc = Outlined(0, "N", (Contour(0.0, points),))
    (nodule,) = find_nodules(readings([disc]), (3.0, 0.5, 0.5))
    assert nodule.diameter_mm == pytest.approx(20 * 0.5, abs=0.5)
    assert math.isnan(find_nodules(readings([disc]))[0].diameter_mm)


def test_masks_by_class_and_by_nodule_bear_their_names():
    a = square(0, 5, 5, 3, [0], {"texture": 5}), square(0, 15, 5, 4, [2.5], {"texture": 1}), square(0, 5, 15, 5, [0])
    nodules, image = find_nodules(readings(a)), ct((2, 30, 32), 0)
    found = nodule_masks(nodules, image, by="class")
    assert {name: int(m.sum()) for name, m in found.masks.items()} == {"ground-glass": 16, "part-solid": 0, "solid": 9}
    assert found.notes == ["nodule-3: no reader rated its texture, so it belongs to no class"]
    by_nodule = nodule_masks(nodules, image, by="nodule").masks
    assert {name: int(m.sum()) for name, m in by_nodule.items()} == {"nodule-1": 9, "nodule-2": 16, "nodule-3": 25}


def test_a_slice_is_found_by_uid_before_z_and_the_difference_is_told():
    body = Outlined(0, "N", (ring(5, 5, 3, 0.0, uid="1.5"),))
    found = nodule_masks(find_nodules(readings([body])), ct((4, 20, 20), 0, uids=("1.2", "1.3", "1.4", "1.5")))
    assert np.nonzero(found.masks["nodule"].any((1, 2)))[0].tolist() == [3]
    assert "placed by SOP Instance UID" in found.notes[0]
    by_z = nodule_masks(find_nodules(readings([body])), ct((4, 20, 20), -2.5, uids=("a", "b", "c", "d")))
    assert np.nonzero(by_z.masks["nodule"].any((1, 2)))[0].tolist() == [1] and by_z.notes == []


def test_z_between_slices_is_not_guessed():
    nodules = find_nodules(readings([square(0, 5, 5, 3, [1.2])]))
    found = nodule_masks(nodules, ct((4, 20, 20), 0))
    assert not found.masks["nodule"].any() and "1 of 1 outlines" in found.notes[0]


def test_stacks_that_run_downwards_or_backwards_get_the_same_place_in_the_patient():
    nodules = find_nodules(readings([square(0, 5, 3, 3, [0, 2.5]), square(0, 14, 13, 2, [7.5])]))
    up = nodule_masks(nodules, ct((4, 20, 23), 0)).masks["nodule"]
    down = nodule_masks(nodules, ct((4, 20, 23), 7.5, step=-2.5)).masks["nodule"]
    np.testing.assert_array_equal(down, up[::-1])
    turned = nodule_masks(nodules, ct((4, 20, 23), 0, flip=(-1, 1)))
    np.testing.assert_array_equal(turned.masks["nodule"], up[:, ::-1])
    assert turned.meta["nodules"]["nodule-2"]["centre_zyx"] == [3, 19 - 13.5, 14.5]
    assert "rows run backwards" in turned.notes[-1]


def test_outlines_beyond_the_slice_are_cut_and_counted():
    found = nodule_masks(find_nodules(readings([square(0, 18, 5, 4, [0])])), ct((1, 20, 20), 0))
    assert found.masks["nodule"].sum() == 2 * 4 and "8 pixels lie outside" in found.notes[0]
    gone = nodule_masks(find_nodules(readings([square(0, 50, 50, 4, [0])])), ct((1, 20, 20), 0))
    assert not gone.masks["nodule"].any() and "16 pixels lie outside" in gone.notes[0]


def test_wrong_choices_and_sagittal_stacks_are_refused():
    nodules = find_nodules(readings([square(0, 5, 5, 3, [0])]))
    for options, message in (
        ({"level": 0.0}, "level is 0.0"),
        ({"level": 1.5}, "level is 1.5"),
        ({"outline": "half"}, "outline is 'half', expected one of exclude, include"),
        ({"by": "reader"}, "by is 'reader'"),
    ):
        with pytest.raises(RecipeError, match=message):
            nodule_masks(nodules, ct((1, 20, 20), 0), **options)
    sagittal = ct((3, 4, 5), 0)
    sagittal.affine[:3, :3] = sagittal.affine[[2, 0, 1], :3]
    with pytest.raises(DataError, match="not a stack of axial slices"):
        nodule_masks(nodules, sagittal)


def test_slices_read_by_simpleitk_without_uids_get_the_same_mask(real, given_slices):
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(DATA / "lidc3" / "dicom")))
    itk = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = (np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing())[:, ::-1]
    affine[:3, 3] = itk.GetOrigin()
    other = Image(sitk.GetArrayFromImage(itk).astype(np.float32), affine, "itk", "P", "CT", "HU")
    nodules = find_nodules(real)
    assert given_slices.slice_uids and not other.slice_uids
    np.testing.assert_array_equal(
        nodule_masks(nodules, other).masks["nodule"], nodule_masks(nodules, given_slices).masks["nodule"]
    )
