"""Both phantoms as recipes see them: contract, purity, splits, views, sizes, cache, errors."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError, RecipeError
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.testing.data import check_dataset
from gen_core.volume import check_sample
from gen_radiology.phantoms import brain_mri, lung_ct
from gen_radiology.phantoms.brain_mri_options import BrainMriPhantom
from gen_radiology.phantoms.lung_ct_options import LungCtPhantom

SIZE = (6, 30, 33)
KINDS = {"lung": (lung_ct, LungCtPhantom), "brain": (brain_mri, BrainMriPhantom)}
BOTH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def make(tmp_path):
    def make(kind, size=SIZE, split=None, seed=0, limit=0, nm=None, **options):
        module, settings = KINDS[kind]
        split = split or SplitOptions(val=0.34, seed=2)
        context = DatasetContext(VolumeOptions(size, nm), split, seed, tmp_path, limit)
        return module.build(settings(**{"subjects": 9, "workers": 1, **options}), context)

    return make


@BOTH
def test_the_data_set_keeps_cores_contract(make, kind):
    check_dataset(make(kind))


@BOTH
@pytest.mark.parametrize("size", [SIZE, (1, 31, 40), (2, 8, 9), (13, 24, 17)])
def test_samples_keep_the_contract_at_any_size(make, kind, size):
    d = make(kind, size, subjects=4)
    assert d.spec.shape == (1, *size) and d.spec.depth == "slices"
    assert d.spec.units == {"lung": "HU", "brain": "a.u."}[kind]
    for name in ("train", "val"):
        sample = d.split(name)[0]
        check_sample(sample, d.spec)
        assert set(sample.masks) == set(d.spec.masks)
        assert all(m.shape == size for m in sample.masks.values())
        assert sample.x.std() > 0.05


@BOTH
def test_the_default_size(make, kind):
    assert make(kind, None).spec.size == {"lung": (64, 64, 64), "brain": (32, 64, 64)}[kind]


@BOTH
def test_volumes_lie_in_the_patient_as_the_spec_says(make, kind):
    d = make(kind)
    affine = d.split("train")[0].geometry.affine
    steps = np.zeros((3, 3))
    steps[[2, 1, 0], [0, 1, 2]] = d.spec.spacing_mm  # slices up, rows to the back, columns to the left
    np.testing.assert_allclose(affine[:3, :3], steps)
    middle = affine @ [*((n - 1) / 2 for n in SIZE), 1]
    np.testing.assert_allclose(middle[:2], 0, atol=1e-9)


@BOTH
def test_slices_are_never_thicker_than_asked_unless_the_spacing_is_given(make, kind):
    assert make(kind, (1, 30, 33), slice_mm=4.0).spec.spacing_mm[0] == 4.0
    assert make(kind, (400, 8, 9)).spec.spacing_mm[0] < 1.0
    assert make(kind, SIZE, spacing_mm=(7.0, 5.0, 6.0)).spec.spacing_mm == (7.0, 5.0, 6.0)
    assert make(kind, SIZE, fov_mm=(30.0, 300.0, 330.0)).spec.spacing_mm == (5.0, 10.0, 10.0)


@BOTH
def test_a_volume_is_a_pure_function_of_seed_and_subject(kind):
    module, settings = KINDS[kind]
    spacing = (12.0, 8.0, 7.0)
    there = [module.render(settings(), SIZE, spacing, s)[0].tobytes() for s in (0, 1, 2)]
    back = [module.render(settings(), SIZE, spacing, s)[0].tobytes() for s in (2, 1, 0)]
    assert there == back[::-1] and len(set(there)) == 3
    code = (
        f"from {module.__name__} import *; import hashlib;"
        f"x, m = render({settings.__name__}(), {SIZE}, {spacing}, 1); print(hashlib.sha256(x.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert out == hashlib.sha256(there[1]).hexdigest()


@BOTH
def test_other_seeds_other_subjects(kind):
    module, settings = KINDS[kind]
    a, b = (module.render(settings(seed=s), SIZE, (12.0, 8.0, 7.0), 0)[0] for s in (0, 1))
    assert (a != b).mean() > 0.9


@BOTH
def test_the_same_subject_is_seen_at_any_size(kind):
    module, settings = KINDS[kind]
    o = settings(noise_hu=0.0) if kind == "lung" else settings(noise=0.0)
    fine = module.render(o, (8, 64, 64), (8.0, 5.0, 5.0), 4)[0]
    coarse = module.render(o, (8, 32, 32), (8.0, 10.0, 10.0), 4)[0]
    pooled = fine.reshape(8, 32, 2, 32, 2).mean((2, 4))
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.98


@BOTH
def test_many_workers_make_the_same_volumes(make, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("gen_core.rendered_cache._PARALLEL_VOXELS", 1)
    one, two = make(kind, workers=1, cache_gib=0.0), make(kind, workers=2)
    two.prepare()
    for a, b in zip(one.split("train"), two.split("train")):
        np.testing.assert_array_equal(a.x, b.x)
        assert a.hash == b.hash and a.id == b.id
        for name in a.masks:
            np.testing.assert_array_equal(a.masks[name], b.masks[name])


@BOTH
def test_splits_are_disjoint_by_subject_and_seeded(make, kind):
    d = make(kind, split=SplitOptions(val=0.3, test=0.2, seed=1), subjects=10, size=(1, 8, 8))
    who = {name: {s.subject for s in d.split(name)} for name in ("train", "val", "test")}
    assert [len(who[n]) for n in ("train", "val", "test")] == [5, 3, 2]
    assert len(set.union(*who.values())) == 10
    assert make(kind, split=SplitOptions(val=0.3, test=0.2, seed=2), subjects=10).subjects != d.subjects


@BOTH
def test_prepare_prints_the_splits_and_volumes_are_unique(make, kind):
    d = make(kind)
    calls = []

    class Display:
        def update(self, stage, step, total, values, speed):
            calls.append((stage, step, total))

    record = d.prepare(Display())
    assert record["splits"]["train"]["volumes"] == 6 and record["splits"]["val"]["volumes"] == 3
    assert "not patients" in record["notes"][-1]
    assert calls[-1] == ("prepare val", 3, 3)
    assert len({s.hash for n in ("train", "val") for s in d.split(n)}) == 9


@BOTH
def test_a_limit_takes_the_first_and_a_small_cache_stores_nothing(make, kind, tmp_path):
    whole, cut = make(kind), make(kind, limit=2, cache_gib=0.0)
    assert len(cut.split("train")) == 2 and cut.split("train").cache is None
    np.testing.assert_array_equal(cut.split("train")[1].x, whole.split("train")[1].x)
    assert "rendered at each access" in cut.prepare()["notes"][0]


@BOTH
def test_a_changed_setting_has_another_cache_entry_and_housekeeping_has_not(make, kind):
    folder = lambda **o: make(kind, **o).split("train").cache.folder
    assert folder() == folder(workers=2) == folder(augment=()) == folder(cache_gib=3.0)
    changed = {"lung": {"noise_hu": 3.0}, "brain": {"bias": 0.2}}[kind]
    assert len({folder(), folder(**changed), folder(size=(6, 30, 34)), folder(subjects=10)}) == 4


@BOTH
def test_views_flip_volume_and_masks_together(make, kind):
    split = make(kind, augment=("flip",), size=(3, 20, 21)).split("train")
    sample, flipped = split[1], 0
    for draw in range(20):
        view, again = split.view(1, draw), split.view(1, draw)
        np.testing.assert_array_equal(view.x, again.x)
        turned = (view.x != sample.x).any()
        flipped += turned
        turn = (lambda a: a[..., ::-1]) if turned else (lambda a: a)
        np.testing.assert_array_equal(view.x, turn(sample.x))
        for name in sample.masks:
            np.testing.assert_array_equal(view.masks[name], turn(sample.masks[name]))
        assert bool(view.geometry.history) == turned
    assert 4 < flipped < 16
    still = make(kind, augment=(), size=(3, 20, 21)).split("train")
    assert all((still.view(1, k).x == still[1].x).all() for k in range(8))


@BOTH
@pytest.mark.parametrize(
    "given, error, says",
    [
        ({"size": (4, 7, 30)}, RecipeError, r"size = \[4, 7, 30\]"),
        ({"nm": (450.0,) * 6}, RecipeError, "slices, not bands"),
        ({"lo": 10.0, "hi": -10.0}, RecipeError, "lo = 10 must lie below"),
        ({"subjects": 1}, DataError, "cannot be split"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(make, kind, given, error, says):
    with pytest.raises(error, match=says):
        make(kind, **given)


@BOTH
def test_an_unknown_split_and_an_index_beyond_the_end(make, kind):
    d = make(kind)
    with pytest.raises(DataError, match="no split 'dev'"):
        d.split("dev")
    with pytest.raises(IndexError):
        d.split("val")[3]
    assert d.split("val")[-1].id == d.split("val")[2].id
