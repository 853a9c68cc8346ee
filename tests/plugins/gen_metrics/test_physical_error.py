"""Errors in HU against arithmetic by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gen_core.batch import Batch
from gen_core.volume import Scale, VolumeSpec
from gen_metrics.metric_options import PhysicalError as Options
from gen_metrics.physical_error import PhysicalError

SCALE = Scale(np.full((1, 1, 1, 1), -1000.0, np.float32), np.full((1, 1, 1, 1), 1000.0, np.float32))
SPEC = VolumeSpec((3, 4, 5), depth="slices", units="HU", scale=SCALE)


def test_errors_are_in_units_and_inside_masks():
    y = torch.zeros(2, 1, 3, 4, 5)
    x = y.clone()
    x[0] += 0.01  # 10 HU
    x[1, ..., 0] -= 0.05  # 50 HU in a fifth of the voxels
    mask = torch.zeros(2, 1, 3, 4, 5, dtype=torch.bool)
    mask[1, ..., :2] = True
    metric = PhysicalError(Options(masks=("lung", "heart")), SimpleNamespace(spec=SPEC, seed=0))
    metric.update(Batch(x, ["a", "b"], reference=y, masks={"lung": mask}), "reconstruction")
    values = {v.name: v.value for v in metric.compute().values}
    assert values["mae"] == pytest.approx((10 + 10) / 2, rel=1e-5)
    assert values["mse"] == pytest.approx((100 + 500) / 2, rel=1e-5)
    assert values["mse scaled"] == pytest.approx(300 / 1e6, rel=1e-5)
    assert values["mae lung"] == pytest.approx(25, rel=1e-5) and "mae heart" not in values
    assert metric.compute().protocol["units"] == "HU"


def test_a_scale_of_each_slice_is_respected():
    scale = Scale(np.zeros((1, 3, 1, 1), np.float32), np.array([2.0, 4.0, 8.0], np.float32).reshape(1, 3, 1, 1))
    spec = VolumeSpec((3, 4, 5), scale=scale)
    metric = PhysicalError(Options(), SimpleNamespace(spec=spec, seed=0))
    y = torch.zeros(1, 1, 3, 4, 5)
    metric.update(Batch(y + 0.1, ["a"], reference=y), "reconstruction")
    assert metric.compute().values[0].value == pytest.approx(0.1 * (1 + 2 + 4) / 3, rel=1e-5)
