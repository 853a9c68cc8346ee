"""A small network written twice: in plain torch, and as a graph worked through in tiles."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from gen_core.tiling.execute import run_tiled
from gen_core.tiling.forecast import forecast, whole_bytes
from gen_core.tiling.graph import Graph
from gen_core.tiling.schedule import schedule
from gen_core.tiling.store import MemoryStore
from gen_core.tiling.windows import Slide, Spread

SIZE = (4, 10, 13)
G = torch.Generator().manual_seed(2)
W1, W2 = torch.randn(6, 2, 3, 3, 3, generator=G) / 7, torch.randn(6, 6, 3, 3, 3, generator=G) / 12
W3, W4 = torch.randn(6, 6, 4, 4, 4, generator=G) / 12, torch.randn(6, 2, 4, 4, 4, generator=G) / 12
GAIN, BIAS = torch.rand(6, generator=G) + 0.5, torch.randn(6, generator=G)
SAME, HALF, TWICE = (Slide(3, 1, 1),) * 3, (Slide(4, 2, 1),) * 3, (Spread(4, 2, 1),) * 3


def plain(x):
    x = F.conv3d(x, W1, padding=1)
    h = F.conv3d(F.group_norm(x, 3, GAIN, BIAS, 1e-6), W2, padding=1)
    x = x + F.silu(F.instance_norm(h, eps=1e-5))
    x = F.conv3d(F.pad(x, (1,) * 6, mode="replicate"), W3, stride=2)
    return F.conv_transpose3d(x, W4, stride=2, padding=1)


def as_graph(size=SIZE):
    graph = Graph(2, size)
    x = graph.local(0, lambda t: F.conv3d(t, W1), SAME, 6, size, "zeros")
    n = graph.norm(x, 3, 1e-6, GAIN, BIAS)
    h = graph.local(n, lambda t: F.conv3d(t, W2), SAME, 6, size, "zeros")
    h = graph.point(lambda t, inplace: F.silu(t, inplace), graph.norm(h, 6, 1e-5))
    x = graph.point(lambda a, b, inplace: a.add_(b) if inplace else a + b, h, x)
    half = tuple(n // 2 for n in size)
    x = graph.local(x, lambda t: F.conv3d(t, W3, stride=2), HALF, 6, half, "replicate")
    graph.local(x, lambda t: F.conv_transpose3d(t, W4, stride=2), TWICE, 2, tuple(2 * n for n in half))
    return graph


def stores():
    """A maker of stores that counts the bytes they hold together."""
    held = {"now": 0, "peak": 0}

    class Counted(MemoryStore):
        def __init__(self, shape):
            super().__init__(shape, torch.device("cpu"))
            self.bytes = 4 * torch.Size(shape).numel()
            held["now"] += self.bytes
            held["peak"] = max(held.values())

        def close(self):
            held["now"] -= self.bytes
            super().close()

    return Counted, held


@pytest.mark.parametrize("tile", list(itertools.product((2, 0), (3, 10), (1, 5, 0))))
def test_any_tile_gives_what_plain_torch_gives(tile):
    x = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(4))
    made = run_tiled(as_graph(), x, tile, stores()[0])
    torch.testing.assert_close(made, plain(x)[..., : made.shape[-1]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("largest", [float("inf"), 0])
def test_the_forecast_of_kept_bytes_is_what_the_stores_hold(largest):
    make, held = stores()
    run_tiled(as_graph(), torch.randn(1, 2, *SIZE), (2, 4, 5), make, largest=largest)
    assert held["peak"] == forecast(as_graph(), (2, 4, 5), largest).kept
    assert held["now"] == 0


def test_a_residual_sum_takes_the_place_of_its_input():
    sizes = [node.bytes for node in as_graph().nodes]
    passes = schedule(as_graph())
    assert [work.norm for work in passes] == [True, True, False]
    assert forecast(as_graph(), (2, 4, 5)).kept == sizes[1] + sizes[3]


def test_computing_again_costs_arithmetic_instead_of_memory():
    kept, again = forecast(as_graph(), (2, 4, 5)), forecast(as_graph(), (2, 4, 5), largest=0)
    assert again.kept == 0 < kept.kept
    assert again.computed > kept.computed


def test_smaller_tiles_need_less_memory():
    work = [forecast(as_graph((16, 64, 64)), tile).work for tile in ((0, 0, 0), (16, 32, 32), (8, 16, 16))]
    assert work[0] > 3 * work[1] > 9 * work[2]
    assert whole_bytes(as_graph((16, 64, 64))) >= work[0]


def test_a_volume_that_the_stride_does_not_divide_is_continued_by_its_last_voxels():
    x = torch.randn(1, 2, 3, 9, 13)
    want = plain(F.pad(x, (0, 1, 0, 1, 0, 1), mode="replicate"))
    torch.testing.assert_close(run_tiled(as_graph((4, 10, 14)), x, (2, 4, 5), stores()[0]), want, rtol=0, atol=1e-5)


def test_only_the_wanted_part_comes_out():
    x = torch.randn(1, 2, *SIZE)
    made = run_tiled(as_graph(), x, (2, 4, 5), stores()[0], wanted=(3, 7, 11))
    torch.testing.assert_close(made, plain(x)[:, :, :3, :7, :11], rtol=0, atol=1e-5)


def test_stores_are_closed_when_a_tile_ends_the_run():
    make, held = stores()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiled(as_graph(), torch.randn(1, 2, *SIZE), (2, 4, 5), make, told=stop)
    assert held["now"] == 0
