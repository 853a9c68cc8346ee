"""Diversity by MS-SSIM of pairs."""

from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_core.volume import VolumeSpec
from gen_metrics.metric_options import MsSsim as Options
from gen_metrics.ms_ssim import MsSsim, ring_pairs


def test_pairs_are_distinct_and_balanced():
    assert sorted(map(sorted, ring_pairs(6, 99))) == sorted([i, j] for i in range(6) for j in range(i + 1, 6))
    pairs = ring_pairs(7, 14)
    ends = [i for pair in pairs for i in pair]
    assert len(pairs) == 14 and all(ends.count(i) == 4 for i in range(7))


def test_a_collapsed_sampler_has_one_and_validation_is_the_floor(context, batches, one):
    metric = MsSsim(Options(pairs=30), context)
    for batch in batches("val", 6):
        metric.update(batch, "val")
    same = batches("train", 1)[0].x.expand(8, -1, -1, -1, -1)
    metric.update(Batch(same, [f"s{i}" for i in range(8)]), "synthetic")
    result = metric.compute()
    val, synthetic = one(result, "ms-ssim", "val"), one(result, "ms-ssim", "synthetic")
    assert synthetic.value == pytest.approx(1.0, abs=1e-4) and val.value < 0.9
    assert synthetic.floor == val.value and synthetic.better == "match" and synthetic.against == "val"
    assert "only 28 pairs" in synthetic.flag and val.flag == ""


def test_memory_bounds_how_many_volumes_are_kept_and_the_protocol_says_so(context, feed):
    big = SimpleNamespace(**{**vars(context), "spec": VolumeSpec((16, 128, 128))})
    assert MsSsim(Options(memory_mb=12), big).most == 4  # 12 MiB / 3 sources / 1 MiB a volume
    metric = feed(MsSsim(Options(volumes=7), context))
    protocol = metric.compute().protocol
    assert protocol["volumes_kept"] == {"synthetic": 7, "train": 7, "val": 7}
    assert protocol["volumes_seen"]["train"] == 40 and protocol["scales"] == 3


def test_the_two_dimensional_mode_is_another_protocol(context, feed, one):
    deep, flat = (feed(MsSsim(Options(mode=m), context)).compute() for m in ("3d", "2d"))
    assert deep.protocol["mode"] != flat.protocol["mode"]
    assert one(deep, "ms-ssim", "val").value != pytest.approx(one(flat, "ms-ssim", "val").value, abs=1e-3)


def test_a_volume_that_is_updated_in_place_later_was_copied(context, batches):
    metric = MsSsim(Options(), context)
    x = batches("val", 4)[0].x.clone()
    metric.update(Batch(x, list("abcd")), "val")
    before = metric.compute().values[0].value
    x.zero_()
    assert metric.compute().values[0].value == before and torch.count_nonzero(x) == 0
