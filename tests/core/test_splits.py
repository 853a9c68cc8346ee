"""Splits: disjoint, seeded, complete; regions of one cube with a gap."""

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.options import SplitOptions
from gen_core.splits import Box, Region, box_positions, crop_positions, split_boxes, split_regions, split_subjects

NAMES = [f"s{i}" for i in range(11)]


def test_subjects_are_parted_without_overlap_or_loss():
    out = split_subjects(NAMES * 3, SplitOptions(val=0.2, test=0.1))
    assert sorted(out["train"] + out["val"] + out["test"]) == sorted(NAMES)
    assert (len(out["val"]), len(out["test"])) == (2, 1)


def test_the_draw_depends_on_the_seed_alone():
    one = split_subjects(NAMES, SplitOptions(seed=4))
    assert one == split_subjects(NAMES[::-1], SplitOptions(seed=4))
    assert any(one != split_subjects(NAMES, SplitOptions(seed=s)) for s in (5, 6, 7))


def test_a_wanted_split_gets_a_subject_and_too_few_are_told():
    out = split_subjects(["a", "b"], SplitOptions(val=0.01))
    assert len(out["val"]) == 1 and out["test"] == []
    with pytest.raises(DataError, match=r"2 subjects cannot be split into train, 1 val, 1 test"):
        split_subjects(["a", "b"], SplitOptions(val=0.3, test=0.3))
    assert split_subjects(["a"], SplitOptions(val=0.0))["train"] == ["a"]


@pytest.mark.parametrize(
    "size, options", [((51, 56), SplitOptions()), ((90, 40), SplitOptions(val=0.4, test=0.2, gap=3))]
)
def test_regions_are_disjoint_with_a_gap_and_hold_a_crop(size, options):
    regions = split_regions(size, (24, 20), options, "f")
    used = np.zeros(size, int)
    for r in regions.values():
        assert r.shape[0] >= 24 and r.shape[1] >= 20
        used[r.y0 : r.y1, r.x0 : r.x1] += 1
    assert used.max() == 1 and len(regions) == 2 + (options.test > 0)
    profile = used.max(axis=1) if size[0] > size[1] else used.max(axis=0)
    runs = "".join(map(str, profile)).strip("1").replace("1", " ").split()
    assert profile[0] == profile[-1] == 1 and len(runs) == len(regions) - 1
    assert all(len(run) >= max(1, options.gap) for run in runs)


def test_a_cube_too_small_for_regions_is_told():
    with pytest.raises(DataError, match=r"f: 40 x 30 pixels are too few for 2 regions of at least 20 x 20"):
        split_regions((40, 30), (20, 20), SplitOptions(), "f")
    with pytest.raises(DataError, match="split.gap"):
        split_regions((50, 30), (20, 20), SplitOptions(gap=11), "f")
    assert split_regions((41, 30), (20, 20), SplitOptions(), "f")["val"] == Region(21, 41, 0, 30)


def test_crop_corners_are_different_inside_and_seeded():
    region = Region(3, 13, 40, 52)
    corners = crop_positions(region, (4, 5), 20, 7)
    assert len(set(corners)) == 20 and corners == crop_positions(region, (4, 5), 20, 7)
    assert corners != crop_positions(region, (4, 5), 20, 8)
    assert all(3 <= y <= 9 and 40 <= x <= 47 for y, x in corners)
    assert len(crop_positions(region, (10, 12), 20, 7)) == 1
    assert crop_positions(region, (11, 5), 20, 7) == []
    everything = crop_positions(region, (9, 11), 99, 0)
    assert sorted(everything) == [(y, x) for y in (3, 4) for x in (40, 41)]


@pytest.mark.parametrize(
    "size, crop, options, along",
    [
        ((48, 17, 23), (8, 9, 10), SplitOptions(), 0),
        ((11, 50, 31), (7, 8, 9), SplitOptions(val=0.3, test=0.2, gap=2), 1),
        ((5, 13, 40), (5, 12, 13), SplitOptions(), 2),
        ((20, 20, 20), (6, 6, 6), SplitOptions(), 0),
    ],
)
def test_boxes_are_disjoint_with_a_gap_along_the_axis_with_most_room(size, crop, options, along):
    boxes = split_boxes(size, crop, options, "v")
    used = np.zeros(size, int)
    for box in boxes.values():
        assert all(n >= c for n, c in zip(box.shape, crop))
        used[tuple(slice(a, b) for a, b in zip(box.low, box.high))] += 1
    assert used.max() == 1 and set(boxes) == {"train", "val"} | ({"test"} if options.test else set())
    others = tuple(k for k in range(3) if k != along)
    assert (used == used.max(axis=others, keepdims=True)).all()  # whole planes across the cut
    profile = "".join(map(str, used.max(axis=others)))
    gaps = profile.strip("1").replace("1", " ").split()
    assert len(gaps) == len(boxes) - 1 and all(len(g) >= max(1, options.gap) for g in gaps)


def test_a_volume_too_small_for_boxes_is_told():
    with pytest.raises(DataError, match=r"v: 9 x 8 x 7 voxels are too few for 2 regions of at least 5 x 4 x 4"):
        split_boxes((9, 8, 7), (5, 4, 4), SplitOptions(), "v")
    with pytest.raises(DataError, match="dataset.crop.size"):
        split_boxes((50, 50, 3), (5, 4, 4), SplitOptions(), "v")
    boxes = split_boxes((9, 9, 7), (5, 4, 4), SplitOptions(), "v")
    assert boxes == {"train": Box((0, 0, 0), (9, 4, 7)), "val": Box((0, 5, 0), (9, 9, 7))}


def test_box_corners_are_different_inside_and_seeded():
    box = Box((2, 3, 5), (7, 10, 11))
    everything = box_positions(box, (4, 5, 6), 99, 0)
    assert everything == [(z, y, 5) for z in (2, 3) for y in (3, 4, 5)]
    some = box_positions(box, (2, 2, 2), 20, 7)
    assert len(set(some)) == 20 and some == box_positions(box, (2, 2, 2), 20, 7) != box_positions(box, (2, 2, 2), 20, 8)
    assert all(2 <= z <= 5 and 3 <= y <= 8 and 5 <= x <= 9 for z, y, x in some)
    assert box_positions(box, (6, 1, 1), 3, 0) == []


def test_crop_corners_are_the_ones_they_have_always_been():
    # a changed draw would silently give every finished run other crops
    assert crop_positions(Region(3, 13, 40, 52), (4, 5), 4, 7) == [(7, 41), (7, 45), (9, 42), (9, 47)]
