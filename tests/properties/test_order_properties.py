"""Laws of splits, of the order of data, of chunks and shards, and of files that are whole or absent."""

import os

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gen_core import atomic
from gen_core.engine.order import batch_slice, epoch_of, plan, starts_epoch, step_samples
from gen_core.errors import DataError
from gen_core.options import SplitOptions
from gen_core.run.samples.sampling import chunks, indices_of
from gen_core.splits import box_positions, crop_positions, split_boxes, split_regions, split_subjects

OPTIONS = st.builds(
    SplitOptions, val=st.floats(0, 0.6), test=st.floats(0, 0.3), seed=st.integers(0, 10**6), gap=st.integers(0, 5)
)
SUBJECTS = st.lists(st.text(max_size=6), min_size=1, max_size=40, unique=True)


def split(subjects, options):
    try:
        return split_subjects(subjects, options)
    except DataError:
        assert len(set(subjects)) < 4 or options.val + options.test > 0.8
        assume(False)


@given(SUBJECTS, OPTIONS)
def test_subjects_are_split_disjoint_and_exhaustive(subjects, options):
    parts = split(subjects, options)
    everyone = [name for part in parts.values() for name in part]
    assert sorted(everyone) == sorted(subjects) and parts["train"]
    assert bool(parts["val"]) == (options.val > 0) and bool(parts["test"]) == (options.test > 0)
    for part, share in (("val", options.val), ("test", options.test)):
        assert abs(len(parts[part]) - share * len(subjects)) <= 1


@given(SUBJECTS, OPTIONS, st.randoms(use_true_random=False))
def test_a_split_is_of_the_set_of_subjects_and_the_seed_alone(subjects, options, random):
    parts, shuffled = split(subjects, options), subjects * 2
    random.shuffle(shuffled)
    assert split_subjects(shuffled, options) == parts


@given(SUBJECTS, st.integers(0, 10**6), st.floats(0, 0.7), st.floats(0, 0.7))
def test_who_is_held_out_stays_so_when_more_are_held_out(subjects, seed, one, other):
    little, much = sorted((one, other))
    small = split(subjects, SplitOptions(val=little, test=0.0, seed=seed))
    large = split(subjects, SplitOptions(val=much, test=0.0, seed=seed))
    assert set(small["val"]) <= set(large["val"]) and set(large["train"]) <= set(small["train"])


@given(st.tuples(*[st.integers(1, 60)] * 2), st.tuples(*[st.integers(1, 12)] * 2), OPTIONS)
def test_regions_of_one_cube_are_apart_by_the_gap(size, crop, options):
    try:
        regions = split_regions(size, crop, options, "one")
    except DataError:
        assume(False)
    covered = np.zeros(size, int)
    for region in regions.values():
        assert region.shape[0] >= crop[0] and region.shape[1] >= crop[1]
        covered[region.y0 : region.y1, region.x0 : region.x1] += 1
        assert 0 <= region.y0 < region.y1 <= size[0] and 0 <= region.x0 < region.x1 <= size[1]
        for corner in crop_positions(region, crop, 5, options.seed):
            assert all(a >= b for a, b in zip(corner, (region.y0, region.x0)))
            assert corner[0] + crop[0] <= region.y1 and corner[1] + crop[1] <= region.x1
    assert covered.max() == 1
    along = int(size[1] >= size[0])
    ends = sorted((r.x0, r.x1) if along else (r.y0, r.y1) for r in regions.values())
    assert all(after[0] - before[1] >= max(1, options.gap) for before, after in zip(ends, ends[1:]))


@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.integers(1, 9)] * 3), OPTIONS)
def test_boxes_of_one_volume_share_no_voxel(size, crop, options):
    try:
        boxes = split_boxes(size, crop, options, "one")
    except DataError:
        assume(False)
    covered = np.zeros(size, int)
    for box in boxes.values():
        covered[tuple(slice(a, b) for a, b in zip(box.low, box.high))] += 1
        corners = box_positions(box, crop, 7, options.seed)
        assert corners == sorted(set(corners)) and len(corners) >= 1
        assert all(a <= c and c + n <= b for at in corners for a, b, c, n in zip(box.low, box.high, at, crop))
    assert covered.max() == 1


@given(st.integers(0, 2**40), st.integers(1, 9), st.integers(1, 23), st.integers(0, 4))
def test_every_volume_comes_once_an_epoch(seed, batch, n, first_epoch):
    start, stop = first_epoch * n // batch, -(-(first_epoch + 3) * n // batch)
    seen = [pair for step in plan(seed, start, stop, batch, n) for pair in step]
    for epoch in range(first_epoch + 1, first_epoch + 2):
        assert sorted(index for index, e in seen if e == epoch) == list(range(n))
    assert [e for _, e in seen] == sorted(e for _, e in seen)


@given(st.integers(0, 99), st.integers(0, 50), st.integers(1, 12), st.integers(1, 9), st.integers(1, 5))
def test_ranks_share_the_samples_of_a_step(seed, step, batch, n, world):
    whole = step_samples(seed, step, batch, n)
    shares = [range(*batch_slice(batch, rank, world)) for rank in range(world)]
    parts = [step_samples(seed, step, batch, n, share) for share in shares]
    assert [pair for part in parts for pair in part] == whole and len(whole) == batch
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [position for share in shares for position in share] == list(range(batch))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 23))
def test_an_epoch_starts_at_one_step_unless_a_step_is_longer_than_it(steps, batch, n):
    started = [step for step in range(steps) if starts_epoch(step, batch, n)]
    epochs = [epoch_of(step, batch, n) for step in range(steps)]
    assert len(started) == len(set(epochs)) and epochs == sorted(epochs)


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 7))
def test_shards_part_the_chunks_and_chunks_the_samples(n, batch, shards):
    parts = [chunks(n, batch, (i, shards)) for i in range(1, shards + 1)]
    every = sorted(chunk for part in parts for chunk in part)
    assert every == chunks(n, batch) == list(range(-(-n // batch)))
    samples = [i for chunk in every for i in indices_of(chunk, batch) if i < n]
    assert samples == list(range(n))


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=30)


@given(name=NAMES.filter(lambda text: text not in (".", "..")), old=st.binary(), new=st.binary(), fails=st.booleans())
def test_a_file_is_the_old_or_the_new_one_and_nothing_stays_beside_it(name, old, new, fails, tmp_path_factory):
    folder = tmp_path_factory.mktemp("atomic")
    path = folder / name
    atomic.write_bytes(path, old)
    if fails:
        with pytest.raises(KeyError), atomic.replacing(path) as beside:
            assert beside != path and beside.parent == folder and beside.name.endswith(path.suffix)
            beside.write_bytes(new)
            raise KeyError
    else:
        atomic.write_bytes(path, new)
    assert os.listdir(folder) == [name] and path.read_bytes() == (old if fails else new)
