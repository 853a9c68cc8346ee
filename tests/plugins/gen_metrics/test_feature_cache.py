"""Features kept on disk: found again, never mistaken, never in the way."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from gen_core.batch import Batch
from gen_metrics.feature_cache import FeatureCache, kept_hashes
from gen_metrics.fid import Fid
from gen_metrics.hyperspectral_fid import HyperspectralFid
from gen_metrics.kid import Kid
from gen_metrics.metric_options import Fid as FidOptions
from gen_metrics.metric_options import HyperspectralFid as HyperspectralOptions
from gen_metrics.metric_options import Kid as KidOptions

CASES = {
    "fid": (Fid, FidOptions()),
    "fid of planes": (Fid, FidOptions(features="colours", planes="each")),
    "hyperspectral-fid": (HyperspectralFid, HyperspectralOptions(features="colours", triplets=9)),
    "kid": (Kid, KidOptions()),
}


def test_what_was_put_is_found_bit_by_bit_under_the_same_key_only(tmp_path):
    rows = torch.randn(4, 7)
    cache = FeatureCache(tmp_path, {"sha256": "a"}, {"seed": 1})
    cache.put("eye", rows)
    assert torch.equal(FeatureCache(tmp_path, {"sha256": "a"}, {"seed": 1}).get("eye"), rows)
    for other in (
        FeatureCache(tmp_path, {"sha256": "b"}, {"seed": 1}),
        FeatureCache(tmp_path, {"sha256": "a"}, {"seed": 2}),
        FeatureCache(tmp_path, {"sha256": "a"}, {"seed": 1}, "meta"),
    ):
        assert other.get("eye") is None
    assert cache.get("other") is None and cache.get("") is None


def test_a_damaged_file_counts_as_absent(tmp_path):
    cache = FeatureCache(tmp_path, {}, {})
    cache.put("eye", torch.randn(4, 7))
    (path,) = tmp_path.rglob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert cache.get("eye") is None
    path.write_bytes(data[:20])
    assert cache.get("eye") is None


def test_a_whole_file_in_the_place_of_another_counts_as_absent(tmp_path):
    cache, other = FeatureCache(tmp_path, {}, {}), FeatureCache(tmp_path, {"sha256": "b"}, {})
    for each, name in ((cache, "eye"), (cache, "ear"), (other, "eye")):
        each.put(name, torch.randn(4, 7))
    for each, name in ((cache, "ear"), (other, "eye")):
        shutil.copyfile(each._path(name), cache._path("eye"))
        assert each.get(name) is not None and cache.get("eye") is None


def test_without_a_folder_or_leave_to_write_nothing_happens(tmp_path):
    FeatureCache(None, {}, {}).put("eye", torch.zeros(2))
    file = tmp_path / "file"
    file.write_text("no folder")
    cache = FeatureCache(file, {}, {})
    cache.put("eye", torch.zeros(2))
    assert cache.get("eye") is None and FeatureCache(None, {}, {}).get("eye") is None


def test_only_real_volumes_are_kept_and_by_their_voxels():
    x = torch.randn(2, 1, 3, 4, 5)
    batch = Batch(x, hashes=["same", "same"])
    first, second = kept_hashes(batch, "val")
    assert first != second and kept_hashes(Batch(x[1:]), "train") == [second]
    assert kept_hashes(batch, "synthetic") == kept_hashes(batch, "reconstruction") == ["", ""]


@pytest.mark.parametrize("case", CASES)
def test_a_second_evaluation_skips_the_network_and_gives_the_same_bits(case, context, feed, tmp_path):
    cls, options = CASES[case]
    plain = feed(cls(options, context)).compute()
    calls: list[int] = []

    def counted(table):
        network = context.features(table)

        def features(x):
            calls.append(len(x))
            return type(network).features(network, x)

        return SimpleNamespace(takes=network.takes, eval=network.eval, protocol=network.protocol, features=features)

    kept = SimpleNamespace(**{**vars(context), "cache": tmp_path, "features": counted})
    first = feed(cls(options, kept)).compute()
    n = len(calls)
    second = feed(cls(options, kept), 5).compute()
    assert first.to_json() == second.to_json() == plain.to_json()
    unkept = {"reconstruction", "synthetic"} & set(cls.sources)
    assert len(calls) - n == n * sum(context.counts[s] for s in unkept) / sum(context.counts[s] for s in cls.sources)
