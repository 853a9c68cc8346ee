"""Exact area averaging against float64 loops and closed forms."""

import numpy as np
import pytest

from gen_hyperspectral.prepare.area_resize import area_resize, axis_weights


def overlap_matrix(source, target):
    """Plain float64: overlap of output interval i with source pixel k."""
    m = np.zeros((target, source))
    for i in range(target):
        low, high = i * source / target, (i + 1) * source / target
        for k in range(source):
            m[i, k] = max(0.0, min(high, k + 1) - max(low, k)) * target / source
    return m


@pytest.mark.parametrize(
    "size, target", [((7, 11), (3, 5)), ((9, 6), (3, 2)), ((13, 8), (13, 3)), ((150, 131), (70, 67))]
)
def test_area_means_equal_the_overlap_integral(size, target):
    x = np.random.default_rng(0).random((2, *size)).astype(np.float32)
    expected = overlap_matrix(size[0], target[0]) @ x.astype(np.float64) @ overlap_matrix(size[1], target[1]).T
    assert area_resize(x, target) == pytest.approx(expected, abs=2e-6)


def test_whole_ratios_are_block_means():
    x = np.random.default_rng(1).random((3, 8, 15)).astype(np.float32)
    expected = x.reshape(3, 4, 2, 5, 3).mean(axis=(2, 4))
    assert area_resize(x, (4, 5)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("source, target", [(1288, 672), (1288, 224), (5, 5), (7, 1), (3, 2)])
def test_weights_sum_to_one_and_conserve_the_mean(source, target):
    axis = axis_weights(source, target)
    assert axis.weight.sum(axis=1) == pytest.approx(np.ones(target), abs=1e-6)
    spread = np.zeros(source)
    for start, row in zip(axis.start, axis.weight):
        for k, w in enumerate(row):
            if start + k < source:
                spread[start + k] += w
            else:
                assert w == 0
    assert spread == pytest.approx(np.full(source, target / source), abs=1e-6)


def test_an_equal_size_is_a_copy():
    x = np.random.default_rng(2).random((4, 5)).astype(np.float32)
    out = area_resize(x, (4, 5))
    assert np.array_equal(out, x) and not np.shares_memory(out, x)


def test_enlarging_is_linear_with_repeated_edges():
    line = np.arange(4, dtype=np.float32)[None]
    out = area_resize(line, (1, 8))[0]
    assert out == pytest.approx(np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), line[0]), abs=1e-6)
    assert area_resize(np.full((1, 1), 3.0), (3, 2)) == pytest.approx(np.full((3, 2), 3.0))
