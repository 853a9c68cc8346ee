"""Distances between distributions are the same bits for any order, any shards, and shards in two processes."""

import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from gen_core.volume import VolumeSpec
from gen_metrics import metric_options as opt
from gen_metrics.fid import Fid
from gen_metrics.hyperspectral_fid import HyperspectralFid
from gen_metrics.kid import Kid
from gen_metrics.prdc import Prdc

CASES = {
    "fid": (Fid, opt.Fid()),
    "fid of planes": (Fid, opt.Fid(features="colours", planes="each")),
    "hyperspectral-fid": (HyperspectralFid, opt.HyperspectralFid(features="colours", triplets=9, triplet_curve=True)),
    "kid": (Kid, opt.Kid(block=9)),
    "prdc": (Prdc, opt.Prdc(k=3)),
}


@pytest.mark.parametrize("case", CASES)
def test_order_batches_and_shards_do_not_change_a_bit(case, context, batches, feed, world):
    cls, options = CASES[case]
    want = feed(cls(options, context), 5).compute().to_json()
    shards = [cls(options, context) for _ in range(3)]
    shuffler = random.Random(1)
    for source in reversed(cls.sources):
        order = list(range(len(world[source][0])))
        shuffler.shuffle(order)
        for n, batch in enumerate(batches(source, 4, order)):
            shards[n % 3].update(batch, source)
    first, second, third = shards
    third.merge(first)
    third.merge(second)
    assert third.compute().to_json() == want


SHARD = """
import sys
from types import SimpleNamespace
import torch
from safetensors.torch import save_file
from gen_core.batch import Batch
from gen_core.volume import VolumeSpec
from gen_features.random_conv64 import RandomConv64
from gen_metrics.hyperspectral_fid import HyperspectralFid
from gen_metrics.metric_options import HyperspectralFid as Options

shard, shards, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
network = RandomConv64()
context = SimpleNamespace(spec=VolumeSpec((5, 12, 14)), seed=2, counts={}, features=lambda table: network)
metric = HyperspectralFid(Options(triplets=4), context)
for source, first in (("train", 0), ("val", 50), ("synthetic", 100)):
    for i in range(first + shard, first + 22, shards):
        x = torch.rand(1, 1, 5, 12, 14, generator=torch.Generator().manual_seed(i)) * 2 - 1
        metric.update(Batch(x, [f"eye-{i}"]), source)
save_file({f"{s}/{n}": t for s, of in metric.features.items() for n, t in of.items()}, path)
"""


def test_two_processes_give_the_bits_of_one(tmp_path):
    from gen_features.random_conv64 import RandomConv64

    network = RandomConv64()
    context = SimpleNamespace(spec=VolumeSpec((5, 12, 14)), seed=2, counts={}, features=lambda table: network)

    def metric_of(*paths):
        whole = HyperspectralFid(opt.HyperspectralFid(triplets=4), context)
        for path in paths:
            part = HyperspectralFid(opt.HyperspectralFid(triplets=4), context)
            for key, rows in load_file(path).items():
                source, name = key.split("/")
                part.features.setdefault(source, {})[name] = rows
            whole.merge(part)
        return whole.compute().to_json()

    paths = [tmp_path / name for name in ("whole", "first", "second")]
    calls = [
        subprocess.Popen([sys.executable, "-c", SHARD, *map(str, (shard, shards, path))])
        for path, (shard, shards) in zip(paths, ((0, 1), (0, 2), (1, 2)))
    ]
    assert [call.wait(120) for call in calls] == [0, 0, 0]
    one, two = metric_of(paths[0]), metric_of(*paths[:0:-1])
    assert one == two and one["values"]
