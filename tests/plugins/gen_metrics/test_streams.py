"""What metrics share: names, seeded draws, remembered features, bands."""

import gc

import pytest
import torch

import gen_metrics.streams as streams
from gen_core.batch import Batch
from gen_metrics.streams import Names, batch_features, draw_key, mask_union, nearest_band, volume_features


def test_draws_are_a_function_of_seed_and_name_and_uniform():
    assert draw_key(0, "eye") == draw_key(0, "eye") != draw_key(1, "eye")
    below = sum(draw_key(3, f"eye-{i}") < 2**62 for i in range(4000))
    assert below == pytest.approx(1000, abs=100)


def test_volumes_without_ids_are_numbered_through_each_source():
    names, x = Names(), torch.zeros(2, 1, 1, 1, 1)
    assert names.of(Batch(x), "val") == ["00000000", "00000001"]
    assert names.of(Batch(x), "val")[0] == "00000002" and names.of(Batch(x), "train")[0] == "00000000"
    assert names.of(Batch(x, ["a", "b"]), "val") == ["a", "b"]


class Counting:
    takes, dim, calls = "volume", 2, 0

    def eval(self):
        return self

    def features(self, x):
        self.calls += 1
        return x.flatten(1)[:, :2]


def test_features_are_computed_once_a_batch_and_forgotten_with_it():
    network, before = Counting(), len(streams._REMEMBERED)
    batch = Batch(torch.randn(3, 1, 2, 4, 5))
    first = batch_features(network, batch)
    assert torch.equal(batch_features(network, batch), first) and network.calls == 3  # each volume by itself
    mirrored = batch_features(network, batch, mirrored=True)
    assert network.calls == 6 and torch.equal(mirrored, batch.x.flip(-1).flatten(1)[:, :2].double())
    assert len(streams._REMEMBERED) == before + 1
    del batch
    gc.collect()
    assert len(streams._REMEMBERED) == before


class Grey:
    takes, dim = "image", 3

    def eval(self):
        return self

    def features(self, x):
        return x.mean((2, 3))


def test_an_image_network_averages_slices_and_keeps_three_channels():
    grey, colour = torch.randn(2, 1, 6, 4, 5), torch.randn(2, 3, 6, 4, 5)
    assert torch.allclose(volume_features(Grey(), grey), grey.mean((1, 2, 3, 4)).double()[:, None].expand(-1, 3))
    assert torch.allclose(volume_features(Grey(), colour), colour.mean((2, 3, 4)).double(), atol=1e-6)


def test_masks_are_united_over_names_and_depth():
    a = torch.zeros(2, 1, 3, 4, 5, dtype=torch.bool)
    b = torch.zeros(2, 1, 1, 4, 5, dtype=torch.bool)
    a[0, 0, 2, 1, 1] = b[1, 0, 0, 3, 4] = True
    batch = Batch(torch.zeros(2, 1, 3, 4, 5), masks={"a": a, "b": b})
    both = mask_union(batch, ("a", "b"))
    assert both.shape == (2, 4, 5) and both[0, 1, 1] and both[1, 3, 4] and int(both.sum()) == 2
    assert mask_union(batch, ("a", "c")) is None


def test_the_nearest_band_or_the_middle_slice():
    assert nearest_band((450.0, 530.0, 555.0), 3, 540.0) == 1
    assert nearest_band(None, 9, 540.0) == 4
