"""Laws of volumes on their way in: resizing, mirroring, places in the patient, scales; each against brute force."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gen_core.volume import Scale
from gen_hyperspectral.prepare.area_resize import area_resize, resize_valid
from gen_hyperspectral.prepare.augment import mirror_and_turn
from gen_radiology.datasets import crop_pad
from gen_radiology.datasets.split import mirror
from gen_radiology.dicom.contours import fill_even_odd
from gen_radiology.volumes import resample
from gen_radiology.volumes.image import Image
from gen_radiology.volumes.placing import find_window, resample_nearest

SMALL = st.integers(1, 9)
SIZES = st.tuples(SMALL, SMALL)
SHAPES = st.tuples(SMALL, SMALL, SMALL)
SEEDS = st.integers(0, 2**32 - 1)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def overlaps(source, target):
    """(target, source): the share of each source pixel in each output; or linear weights where the axis grows."""
    weight = np.zeros((target, source))
    for i in range(target):
        if target <= source:
            low, high = i * source / target, (i + 1) * source / target
            for k in range(source):
                weight[i, k] = max(0.0, min(high, k + 1) - max(low, k)) / (high - low)
        else:
            at = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
            weight[i, int(at)] += 1 - at % 1
            if at % 1:
                weight[i, int(at) + 1] += at % 1
    return weight


@given(SIZES, SIZES, SEEDS)
def test_area_resize_is_the_brute_force_average(source, target, seed):
    x = numbers(seed, 2, *source)
    rows, columns = overlaps(source[0], target[0]), overlaps(source[1], target[1])
    np.testing.assert_allclose(area_resize(x, target), rows @ x.astype(np.float64) @ columns.T, atol=1e-5)


@given(SIZES, SEEDS, st.data())
def test_area_resize_keeps_the_mean_where_it_shrinks(source, seed, data):
    target = tuple(data.draw(st.integers(1, n)) for n in source)
    x = numbers(seed, 3, *source)
    np.testing.assert_allclose(area_resize(x, target).mean((1, 2)), x.mean((1, 2)), atol=1e-5)


@given(SIZES, SIZES, st.floats(-1e3, 1e3, width=32))
def test_area_resize_keeps_a_constant(source, target, value):
    np.testing.assert_allclose(
        area_resize(np.full((1, *source), value, np.float32), target), value, rtol=1e-5, atol=1e-5
    )


@given(SIZES, SIZES, SEEDS, st.floats(-3, 3))
def test_area_resize_is_linear(source, target, seed, factor):
    x, y = numbers(seed, 1, *source), numbers(seed + 1, 1, *source)
    together = area_resize(x + np.float32(factor) * y, target)
    np.testing.assert_allclose(together, area_resize(x, target) + factor * area_resize(y, target), atol=1e-4)


@given(SIZES, SIZES, SEEDS)
def test_invalid_pixels_do_not_enter_a_mean(source, target, seed):
    rng = np.random.default_rng(seed)
    x, valid = numbers(seed, 1, *source), rng.random(source) < 0.7
    clean, kept = resize_valid(x, valid, target)
    spoilt, same = resize_valid(np.where(valid, x, np.float32(1e6)), valid, target)
    assert np.array_equal(kept, same)
    np.testing.assert_allclose(clean[:, kept], spoilt[:, kept], atol=1e-5)


@given(SHAPES, SEEDS, st.sets(st.sampled_from(["flip_h", "flip_v", "rot90"])))
def test_masks_move_along_when_cubes_are_turned(shape, seed, names):
    x = numbers(seed, 1, *shape)
    masks = {"above": x > 0, "ones": np.ones((1, 1, *shape[1:]), bool)}
    turned, moved = mirror_and_turn(x, masks, tuple(names), np.random.default_rng(seed))
    assert np.array_equal(moved["above"], turned > 0) and moved["ones"].all()
    assert sorted(turned.ravel().tolist()) == sorted(x.ravel().tolist())
    if "rot90" not in names:  # mirrors are their own inverse
        back, _ = mirror_and_turn(turned, {}, tuple(names), np.random.default_rng(seed))
        assert np.array_equal(back, x)


@st.composite
def affines(draw):
    """Voxel (z, y, x) to LPS mm: any rotation or mirror image, spacings 0.2 to 6 mm."""
    rng = np.random.default_rng(draw(SEEDS))
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turned * rng.uniform(0.2, 6, 3), rng.uniform(-300, 300, 3)
    return matrix


@given(SHAPES, affines(), SEEDS, st.sets(st.sampled_from(["flip_d", "flip_h", "flip_w"])))
def test_mirrored_voxels_stay_where_they_were_in_the_patient(shape, affine, seed, names):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    turned, masks, moved = mirror(x, {"m": x[0] > 3}, affine, tuple(names), np.random.default_rng(seed))
    assert np.array_equal(masks["m"], turned[0] > 3)
    at = np.argwhere(turned[0] >= 0)
    origin = np.stack(np.unravel_index(turned[0][tuple(at.T)].astype(int), shape), 1)
    point = lambda index, matrix: index @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(point(at, moved), point(origin, affine), atol=1e-6)


@given(SHAPES, affines(), SEEDS)
def test_voxels_to_millimetres_and_back(shape, affine, seed):
    image = Image(np.zeros(shape, np.float32), affine, "a", "a")
    index = np.random.default_rng(seed).uniform(-5, 20, (7, 3))
    millimetres = index @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(image.to_index(millimetres), index, atol=1e-7)
    np.testing.assert_allclose(image.directions * image.spacing, affine[:3, :3], atol=1e-12)


@given(SHAPES, affines())
def test_an_oriented_volume_has_its_points_where_they_were(shape, affine):
    array = np.arange(np.prod(shape)).reshape(shape)
    turned = resample.oriented(array, affine)
    size, matrix = resample.oriented_affine(shape, affine)
    assert turned.shape == size
    at = np.argwhere(turned >= 0)
    origin = np.stack(np.unravel_index(turned[tuple(at.T)], shape), 1)
    np.testing.assert_allclose(
        at @ matrix[:3, :3].T + matrix[:3, 3], origin @ affine[:3, :3].T + affine[:3, 3], atol=1e-9
    )
    unit = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    assert (np.diag(unit[::-1]) >= -1e-9).all()  # to the head, the back, the left


@given(SHAPES, SHAPES, st.tuples(*[st.integers(-12, 12)] * 3), affines())
def test_a_block_lies_where_its_affine_says(shape, size, corner, affine):
    volume = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    block, matrix = crop_pad.cut(volume, corner, size), crop_pad.moved(affine, corner)
    for at in np.ndindex(*size):
        source = tuple(a + c for a, c in zip(at, corner))
        inside = all(0 <= s < n for s, n in zip(source, shape))
        assert block[at] == volume[source] if inside else np.isnan(block[at])
    here, there = np.array([*(n - 1 for n in size), 1]), np.array([*(n - 1 + c for n, c in zip(size, corner)), 1])
    np.testing.assert_allclose(matrix @ here, affine @ there, atol=1e-6)


@given(SHAPES, SHAPES, SEEDS)
def test_resampling_keeps_constants_ranges_and_masks(shape, size, seed):
    grid = resample.size_grid(shape, size)
    x = numbers(seed, *shape)
    out = resample.resample(x, grid)
    assert out.shape == size and x.min() - 1e-4 <= out.min() and out.max() <= x.max() + 1e-4
    np.testing.assert_allclose(resample.resample(np.full(shape, 7, np.float32), grid), 7, rtol=1e-6)
    for how in ("volume", "nearest"):
        assert resample.resample_mask(np.ones(shape, bool), grid, how).all()
        assert not resample.resample_mask(np.zeros(shape, bool), grid, how).any()


@given(SHAPES, SHAPES, st.tuples(*[st.integers(-4, 4)] * 3), st.permutations(range(3)), SEEDS)
def test_a_mask_on_the_same_lattice_is_placed_as_by_the_nearest_voxel(shape, size, shift, order, seed):
    rng = np.random.default_rng(seed)
    affine = np.diag([2.5, 1.3, 0.7, 1.0])
    image = Image(np.zeros(shape, np.float32), affine, "a", "a")
    signs = rng.choice([-1.0, 1.0], 3)
    other = np.eye(4)
    other[:3, :3], other[:3, 3] = 0, affine[:3, :3] @ shift
    for axis, target in enumerate(order):
        other[target, axis] = affine[target, target] * signs[axis]
    labels = rng.integers(0, 3, size).astype(np.uint8)
    window = find_window(size, other, image)
    assume(window is not None)
    placed = np.zeros(shape, np.uint8)
    kept, outside = window.put(labels, placed)
    assert kept + outside == np.count_nonzero(labels)
    assert np.array_equal(placed, resample_nearest(labels, other, image))


@given(arrays(np.float64, (2, 3, 1, 1), elements=st.floats(-1e4, 1e4)), st.floats(0.01, 1e4), SHAPES, SEEDS)
def test_values_scaled_and_scaled_back_are_the_same(lo, width, shape, seed):
    scale = Scale(lo.astype(np.float32), (lo + width).astype(np.float32))
    x = np.random.default_rng(seed).uniform(-1, 1, (2, 3, *shape[1:])).astype(np.float32)
    back = scale.to_unit(scale.to_physical(x))
    rounding = 8 * np.finfo(np.float32).eps * (np.abs(scale.lo) + np.abs(scale.hi)) / (scale.hi - scale.lo)
    assert (np.abs(back - x) <= rounding + 1e-6).all()
    assert np.array_equal(Scale.from_json(scale.to_json()).lo, scale.lo)
    assert (
        np.allclose(scale.to_physical(np.full_like(x, -1)), scale.lo) and (scale.to_unit(scale.lo + 0 * x) == -1).all()
    )


@given(st.lists(st.tuples(st.integers(-3, 9), st.integers(-3, 12)), min_size=3, max_size=7), SEEDS)
def test_a_polygon_is_filled_by_the_parity_of_crossings(points, seed):
    polygon = np.array(points, float) + np.random.default_rng(seed).uniform(0.1, 0.4, (len(points), 2))
    mask = fill_even_odd([polygon], (6, 9))
    for y, x in np.ndindex(6, 9):
        crossings = 0
        for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, 0)):
            if min(y0, y1) <= y < max(y0, y1):
                crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
        assert mask[y, x] == bool(crossings % 2), (y, x)
    assert not fill_even_odd([polygon, polygon], (6, 9)).any()
    assert np.array_equal(fill_even_odd([polygon[::-1]], (6, 9)), mask)
