"""Sure pixels: threshold, field and largest component."""

import math

import numpy as np
import torch
from scipy.ndimage import label

from gen_metrics.postprocess import largest_component, round_field, sure_pixels


def test_sure_pixels_are_above_the_probability_and_inside_the_field():
    p = torch.rand(3, 11, 14, generator=torch.Generator().manual_seed(0))
    field = round_field(11, 14, 0.2, 0.3)
    got = sure_pixels(p, 0.7, field)
    assert torch.equal(got, (p >= 0.7) & field) and 0 < int(got.sum()) < int((p >= 0.7).sum())
    assert bool(sure_pixels(torch.full((1, 2, 3), 0.95), 0.95, torch.ones(2, 3, dtype=torch.bool)).all())


def test_the_largest_component_is_chosen_before_the_field_is_cropped():
    p = torch.zeros(1, 20, 24)
    p[0, :2, :5] = 1.0  # larger, but in a corner that the field leaves out
    p[0, 9:12, 10:12] = 1.0
    field = round_field(20, 24, 0.1, 0.0)
    assert int(sure_pixels(p, 0.5, field, largest=True).sum()) == 0
    assert int(sure_pixels(p, 0.5, field, largest=False).sum()) == 6


def test_the_largest_component_is_that_of_scipy():
    mask = torch.rand(30, 26, generator=torch.Generator().manual_seed(3)) > 0.55
    labels, n = label(mask.numpy())
    sizes = np.bincount(labels.ravel())[1:]
    assert n > 3 and int(largest_component(mask).sum()) == sizes.max()


def test_rim_and_centre_of_the_round_field_are_dropped():
    field = round_field(40, 48, 0.1, 0.2)
    assert not field[20, 24] and field[20, 24 + 10] and not field[0, 24] and not field[20, 1]
    assert abs(int(field.sum()) / (math.pi * 20**2) - (0.9**2 - 0.2**2)) < 0.03
    assert round_field(5, 6, 0.0, 0.0).all()


def test_only_the_largest_component_is_kept():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[0, :2] = True
    mask[3:5, 3:6] = True
    assert int(largest_component(mask).sum()) == 6 and not largest_component(mask)[0, 0]
    assert not largest_component(torch.zeros(3, 3, dtype=torch.bool)).any()
