"""1 000 random sets of patients, split: nobody and no content is in two splits, crops of one patient keep the gap."""

from __future__ import annotations

import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.options import SplitOptions
from gen_core.splits import box_positions, crop_positions, split_boxes, split_regions, split_subjects

SPLITS = 1000
NAMES = [
    "p",
    "P",
    "Müller",
    "Mu\u0308ller",
    "ß",
    "患者",
    "пациент",
    "مريض",
    " ",
    "-",
    "",
    "1",
    "01",
    "1.0",
    "a/b",
    "\u200b",
    "🏥",
]


def drawn(rng):
    """Subjects of some volumes, with unicode names, many volumes a subject, and any order."""
    n = int(rng.choice([1, 2, 3, 5, 8, 40, 200]))
    subjects = [f"{rng.choice(NAMES)}{k if rng.random() < 0.8 else ''}" for k in range(n)]
    volumes = [s for s in subjects for _ in range(int(rng.integers(1, 6)))]
    val, test = (float(rng.choice([0.0, 0.01, 0.1, 0.2, 0.34, 0.5, 0.9])) for _ in range(2))
    return [volumes[i] for i in rng.permutation(len(volumes))], val, test


def test_no_subject_is_in_two_of_a_thousand_random_splits():
    rng, split, refused = np.random.default_rng(7), 0, 0
    for seed in range(SPLITS):
        volumes, val, test = drawn(rng)
        try:
            options = SplitOptions(val=val, test=test, seed=seed)
            parts = split_subjects(volumes, options)
        except (DataError, ValueError) as error:  # more wanted than there are
            assert "split" in str(error) or "val" in str(error)
            refused += 1
            continue
        split += 1
        sets = {name: set(part) for name, part in parts.items()}
        assert sum(map(len, sets.values())) == len(set(volumes)) == len(set().union(*sets.values()))
        assert all(len(part) == len(sets[name]) for name, part in parts.items())
        assert sets["train"] and bool(sets["val"]) == (val > 0) and bool(sets["test"]) == (test > 0)
        assert split_subjects(sorted(set(volumes)), options) == parts  # neither order nor repeats matter
    assert split + refused == SPLITS and split > 500 and refused > 50


def _apart(spans, gap):
    """Whether intervals (first, end) along one axis lie at least `gap` apart."""
    spans = sorted(spans)
    return all(b[0] - a[1] >= max(1, gap) for a, b in zip(spans, spans[1:]))


@pytest.mark.parametrize("axes", [2, 3])
def test_crops_of_one_patient_never_meet_in_a_thousand_random_cuts(axes):
    rng, cut = np.random.default_rng(axes), 0
    for seed in range(SPLITS):
        size = tuple(int(n) for n in rng.integers(4, 60, axes))
        crop = tuple(int(rng.integers(1, max(2, n // 2))) for n in size)
        gap, val, test = int(rng.choice([0, 0, 1, 3, 9])), *(float(rng.choice([0.0, 0.1, 0.3, 0.45])) for _ in range(2))
        try:
            options = SplitOptions(val=val, test=test, gap=gap, seed=seed)
            make = split_regions if axes == 2 else split_boxes
            parts = make(size, crop, options, "eye")
        except (DataError, ValueError):
            continue
        cut += 1
        low = lambda p: (p.y0, p.x0) if axes == 2 else p.low
        high = lambda p: (p.y1, p.x1) if axes == 2 else p.high
        if len(parts) > 1:
            along = [k for k in range(axes) if len({(low(p)[k], high(p)[k]) for p in parts.values()}) > 1]
            assert any(_apart([(low(p)[k], high(p)[k]) for p in parts.values()], gap) for k in along)
        at = crop_positions if axes == 2 else box_positions
        seen = np.zeros(size, np.int8)
        for n, part in enumerate(parts.values(), 1):
            for corner in at(part, crop, 4, seed):
                block = seen[tuple(slice(c, c + w) for c, w in zip(corner, crop))]
                assert block.shape == crop and not ((block != 0) & (block != n)).any()
                block[...] = n
    assert cut > 300


@pytest.mark.parametrize("use", ["retina-phantom", "lung-ct-phantom", "brain-mri-phantom"])
def test_phantom_patients_and_their_content_are_in_one_split(use, tmp_path):
    from gen_core.dataset import DatasetContext
    from gen_core.options import VolumeOptions
    from gen_core.registry import Registry

    registry = Registry.load(allow="off")
    component = registry.get("dataset", use)
    for seed in range(2):
        context = DatasetContext(
            VolumeOptions(size=(4, 16, 16)), SplitOptions(val=0.3, test=0.2, seed=seed), seed, tmp_path
        )
        data = component.build(component.options_class()(subjects=6), context)
        data.prepare()
        seen = {}
        for name in ("train", "val", "test"):
            for sample in data.split(name):
                assert seen.setdefault(sample.subject, name) == name and seen.setdefault(sample.hash, name) == name


def test_equal_content_of_two_patients_is_refused_or_kept_together(tmp_path):
    from gen_core.dataset import DatasetContext
    from gen_core.options import VolumeOptions
    from gen_core.registry import Registry

    nibabel = pytest.importorskip("nibabel")
    rng, registry = np.random.default_rng(3), Registry.load(allow="off")
    component = registry.get("dataset", "nifti")
    outcomes = set()
    for trial in range(8):
        root = tmp_path / str(trial)
        root.mkdir()
        values = [rng.integers(0, 99, (6, 5, 4)).astype(np.int16) for _ in range(5)]
        values.append(values[0].copy())  # a sixth patient who is the first under another name
        for k, value in enumerate(values):
            nibabel.save(nibabel.Nifti1Image(value, np.eye(4)), root / f"patient-{k}.nii")
        options = component.options_class()(root=str(root))
        context = DatasetContext(
            VolumeOptions(size=(4, 4, 4)), SplitOptions(val=0.4, seed=trial), trial, tmp_path / "c"
        )
        data = component.build(options, context)
        try:
            data.prepare()
        except DataError as error:
            assert "same content" in str(error)
            outcomes.add("refused")
            continue
        outcomes.add("together")
        train, val = ({s.hash for s in data.split(name)} for name in ("train", "val"))
        assert not train & val
    assert outcomes == {"refused", "together"}
