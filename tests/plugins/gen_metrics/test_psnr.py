"""PSNR against its formula."""

import math

import pytest
import torch

from gen_core.batch import Batch
from gen_metrics.metric_options import Psnr as Options
from gen_metrics.psnr import Psnr


def test_psnr_is_the_mean_of_decibels_and_inside_looks_only_at_valid_voxels(context, one):
    y = torch.zeros(2, 1, 5, 6, 7)
    x = y.clone()
    x[0] += 0.1  # mse 0.01: 10 log10(4 / 0.01) dB
    x[1] += 0.2
    valid = torch.zeros(2, 1, 1, 6, 7, dtype=torch.bool)
    valid[..., :3] = True
    x[0, ..., :3] = 0.01  # mse 1e-4 inside
    metric = Psnr(Options(), context)
    metric.update(Batch(x, ["a", "b"], reference=y, masks={"valid": valid}), "reconstruction")
    result = metric.compute()
    db = lambda mse: 10 * math.log10(4 / mse)
    mixed = (3 * 1e-4 + 4 * 0.01) / 7
    assert one(result, "psnr", "reconstruction").value == pytest.approx((db(mixed) + db(0.04)) / 2, abs=1e-4)
    assert one(result, "psnr inside", "reconstruction").value == pytest.approx((db(1e-4) + db(0.04)) / 2, abs=1e-4)
    assert "only 2 volumes" in one(result, "psnr", "reconstruction").flag


def test_an_exact_copy_is_finite(context, one):
    metric = Psnr(Options(), context)
    y = torch.rand(1, 1, 3, 4, 5)
    metric.update(Batch(y, ["a"], reference=y), "reconstruction")
    assert one(metric.compute(), "psnr", "reconstruction").value == pytest.approx(106.02, abs=0.01)
